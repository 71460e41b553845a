"""The process that tries new models: ``python -m quarry.models.trial`` reads a task a line from stdin."""

import sys
from pathlib import Path
from typing import Any

from quarry.errors import ModelError, QuarryError
from quarry.jobs.child import work_as_worker
from quarry.models.run_settings import ModelKind


def try_one(task: dict[str, Any]) -> None:
    """Loads the model that the task names, exports it beside its folder, and runs it. Raises ModelError."""
    from quarry.models.serving import try_model  # what it imports takes longer than a bad task

    folder, kind, data = Path(task["folder"]), ModelKind(task["kind"]), Path(task["data"])
    try:
        try_model(folder, kind, data, task["device"], task["precision"])
    except (QuarryError, OSError, MemoryError):
        raise
    except Exception as error:  # what libraries raise at files that they do not expect
        raise ModelError(f"the model cannot be loaded: {type(error).__name__}") from error


if __name__ == "__main__":
    sys.exit(work_as_worker(try_one))
