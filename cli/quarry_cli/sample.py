"""The sample collection, where it lies after a checkout or an installation."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from quarry_cli.failures import CliError

NAME = "stackfaq-webapps"


@dataclass(frozen=True, slots=True)
class Sample:
    """Files of a judged collection.

    Attributes:
        qrels: what it is measured with: queries whose documents nobody has clicked.
        needs: what simulated users find relevant.
    """

    corpus: Path
    queries: Path
    qrels: Path
    needs: Path


def find_sample() -> Sample:
    """The sample, from the installed package or from the checkout that this module is part of.

    Raises:
        CliError: neither has it.
    """
    packaged = Path(str(resources.files("quarry_cli"))) / "data" / NAME
    checkout = Path(__file__).resolve().parents[2] / "examples" / "data" / NAME
    for folder in (packaged, checkout):
        qrels = folder / "qrels"
        files = (folder / "corpus.jsonl", folder / "queries.jsonl", qrels / "test.tsv", qrels / "train.tsv")
        if all(file.is_file() for file in files):
            return Sample(*files)
    raise CliError(
        f"this installation came without the sample collection {NAME}",
        "run `quarry demo` in a checkout of the repository, which has it under examples/data",
    )
