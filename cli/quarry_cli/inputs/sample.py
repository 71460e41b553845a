"""The sample collection, where it lies after a checkout or an installation."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from quarry_cli.failures import CliError

NAME = "stackfaq-webapps"


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """Files of a judged collection.

    Attributes:
        needs: what simulated users find relevant.
        qrels: other wordings of the same needs, which nobody searches with: to judge and to measure by.
    """

    corpus: Path
    queries: Path
    needs: Path
    qrels: Path


def find_sample() -> SampleFiles:
    """Finds the sample, from the installed package or from the checkout that this module is part of.

    Raises:
        CliError: neither has it.
    """
    packaged = Path(str(resources.files("quarry_cli"))) / "data" / NAME
    checkout = Path(__file__).resolve().parents[3] / "examples" / "data" / NAME
    for folder in (packaged, checkout):
        qrels = folder / "qrels"
        texts = (folder / "corpus.jsonl", folder / "queries.jsonl")
        files = (*texts, qrels / "known-train.tsv", qrels / "known-test.tsv")
        if all(file.is_file() for file in files):
            return SampleFiles(*files)
    raise CliError(
        f"this installation came without the sample collection {NAME}",
        "run `quarry demo` in a checkout of the repository, which has it under examples/data",
    )
