"""The process of a job: ``python -m quarry_miner.job mine FOLDER``, or ``estimate FOLDER``.

The folder holds the spec, and gets the results. It lies in the data folder of a server, whose logs are read.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from quarry.errors import InvalidArgumentError, NotFoundError
from quarry.jobs.child import Progress, run_as_job
from quarry.mining.estimate import EstimateSpec
from quarry.mining.jobs import ESTIMATE
from quarry.mining.sets import SPEC, write_model
from quarry.mining.spec import MiningSpec

M = TypeVar("M", bound=BaseModel)
USAGE = 2


def mine(folder: Path, progress: Progress) -> None:
    from quarry_miner.making import make_set  # what it imports takes longer than reading a broken spec

    make_set(read_spec(folder, MiningSpec), folder, progress)


def estimate(folder: Path, progress: Progress) -> None:
    from quarry_miner.estimate import estimate_relevance
    from quarry_miner.logs import open_logs

    spec = read_spec(folder, EstimateSpec)
    progress("feedback", 0.0)
    with open_logs(data_of(folder)) as logs:
        logs.collection(spec.collection_key)
        clicks = logs.clicks(spec.collection_key, spec.guards).log
    progress("model", 0.5)
    write_model(folder / ESTIMATE, estimate_relevance(clicks, spec))


def read_spec(folder: Path, kind: type[M]) -> M:
    """Raises NotFoundError if there is none, InvalidArgumentError if it is not what it should be."""
    try:
        return kind.model_validate_json((folder / SPEC).read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{folder / SPEC} is not there: a job is started by a server") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidArgumentError(f"spec.{field}" if field else "spec", first["msg"]) from None


def data_of(folder: Path) -> Path:
    """The server's data folder that a job's folder lies in."""
    return folder.resolve().parent.parent


JOBS: Mapping[str, Callable[[Path, Progress], None]] = {"mine": mine, "estimate": estimate}


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if len(arguments) != 2 or arguments[0] not in JOBS:
        sys.stderr.write(f"usage: python -m quarry_miner.job {'|'.join(JOBS)} FOLDER\n")
        return USAGE
    work, folder = JOBS[arguments[0]], Path(arguments[1])
    return run_as_job(lambda progress: work(folder, progress))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
