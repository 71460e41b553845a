"""The process that fetches a model: ``python -m quarry.models.sources.fetching MODEL FOLDER HOME``.

It is the only one of Quarry's processes that reaches the Hugging Face hub. It puts the model's files into
FOLDER, and the library's own into HOME.
"""

import sys
from pathlib import Path

from quarry.environment import allow_hub
from quarry.errors import DiskFullError, ModelError, UnavailableError
from quarry.jobs.child import ProgressReporter, run_as_job
from quarry.models.sources.resolve import is_model
from quarry.storage.disk import is_disk_full

FILES = ["*.json", "*/config.json", "*.safetensors", "*.txt", "*.model"]
"""What is fetched first; weights as ``*.bin`` only where a model has no safetensors."""


def fetch(name: str, folder: Path) -> None:
    """Downloads the hub's model ``name`` into ``folder``.

    Raises:
        DiskFullError: it does not fit.
        ModelError: the hub has no such model, does not give it away, or it holds no weights.
        UnavailableError: the hub cannot be reached, or breaks off.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        snapshot_download(name, local_dir=folder, allow_patterns=FILES)
        if not is_model(folder):
            snapshot_download(name, local_dir=folder, allow_patterns=[*FILES, "pytorch_model*.bin"])
    except (errors.HFValidationError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        kind = type(error).__name__
        raise ModelError(f"the Hugging Face hub gives no {name!r}: {kind}", model=name) from error
    except Exception as error:  # what its HTTP client raises has no common base
        if is_disk_full(error):
            raise DiskFullError("the disk that holds the data folder is full") from error
        raise UnavailableError(
            f"the Hugging Face hub did not give {name!r}: {type(error).__name__}", model=name
        ) from error
    if not is_model(folder):
        raise ModelError(f"the hub's {name} has no config.json beside weights (*.safetensors)", model=name)


def main(arguments: list[str]) -> int:
    name, folder, home = arguments
    allow_hub(Path(home))

    def fetch_model(_progress: ProgressReporter) -> None:
        fetch(name, Path(folder))

    return run_as_job(fetch_model)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
