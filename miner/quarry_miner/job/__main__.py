"""The process of a job: ``python -m quarry_miner.job mine FOLDER``, or ``estimate FOLDER``.

The folder holds the spec, and gets the results. It lies in the data folder of a server, whose logs are read.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from quarry.jobs.child import FolderJob, ProgressReporter, read_spec, run_job
from quarry.jobs.files import write_model
from quarry.jobs.folders import SPEC
from quarry.mining.estimate import EstimateSpec
from quarry.mining.jobs import ESTIMATE
from quarry.mining.spec import MiningSpec


def mine(folder: Path, progress: ProgressReporter) -> None:
    from quarry_miner.job.mining_job import (
        make_set,  # what it imports takes longer than reading a broken spec
    )

    make_set(read_spec(folder / SPEC, MiningSpec), folder, progress)


def estimate(folder: Path, progress: ProgressReporter) -> None:
    from quarry_miner.evidence.logs import open_logs
    from quarry_miner.job.relevance_estimate import estimate_relevance

    spec = read_spec(folder / SPEC, EstimateSpec)
    progress("feedback", 0.0)
    with open_logs(locate_data(folder)) as logs:
        logs.read_collection(spec.collection_key)
        clicks = logs.read_clicks(spec.collection_key, spec.guards)
    progress("model", 0.5)
    write_model(folder / ESTIMATE, estimate_relevance(clicks, spec))


def locate_data(folder: Path) -> Path:
    """Locates the server's data folder that a job's folder lies in."""
    return folder.resolve().parent.parent


JOBS: Mapping[str, FolderJob] = {"mine": mine, "estimate": estimate}


def main(arguments: list[str]) -> int:
    return run_job("quarry_miner.job", JOBS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
