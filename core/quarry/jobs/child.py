"""The duties of a job's own process: it takes little, ends with its server, and says how it gets on.

It writes one JSON object a line to stdout: ``{"stage": ..., "progress": ...}`` as it gets on, maybe with
``"details": {name: number}``, and ``{"error": {...}}`` before it fails. ``quarry.jobs.process`` is the other
end.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from quarry.errors import (
    KINDS,
    DiskFullError,
    InvalidArgumentError,
    LimitExceededError,
    NotFoundError,
    QuarryError,
)
from quarry.jobs.memory_watch import ask_to_be_killed_first
from quarry.lifetime import die_with
from quarry.quoting import quote_error
from quarry.storage.disk import is_disk_full

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)

PARENT = "QUARRY_JOB_PARENT"
NICENESS, WAITED_FOR_NICENESS = 19, 5
"""Of a job, and of a process whose answer a caller waits for: busy neighbours would starve it at 19."""
USAGE = 2
LEAST_PAUSE_S = 0.5
"""Between two lines of one stage: each is a write to the server's log."""
CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]
"""Options of a job's client. Its server is on this machine, so no proxy stands between them. A job has more
time than other clients: it asks again by ``quarry.jobs.retrying``, and gRPC does not."""
_NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "bad allocation")
"""How torch and onnxruntime, whose errors are of general types, say that there is no memory."""
NO_MEMORY = LimitExceededError("the job needed more memory than the machine had left")


class ProgressReporter:
    """Says on stdout how far the job is.

    Args:
        write: takes one line; stdout's by default.
    """

    def __init__(self, write: Callable[[bytes], None] | None = None) -> None:
        self._write = write or _to_stdout
        self._stage, self._said_s = "", 0.0

    def __call__(self, stage: str, progress: float, details: Mapping[str, float] | None = None) -> None:
        """Reports ``progress`` of the whole job, 0 to 1. Lines of one stage that come too fast are left out.

        Args:
            details: what else there is to say of the stage; one that is not finite is not heard.
        """
        now = time.monotonic()
        if stage == self._stage and now - self._said_s < LEAST_PAUSE_S:
            return
        self._stage, self._said_s = stage, now
        line: dict[str, Any] = {"stage": stage, "progress": round(progress, 4)}
        if details is not None:
            line["details"] = {name: float(value) for name, value in details.items()}
        self._write(orjson.dumps(line))


def read_spec(path: Path, kind: type[M]) -> M:
    """Reads what is asked of a job, as its server wrote it down.

    Raises NotFoundError if there is none, InvalidArgumentError if it is not what it should be.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not there: a job is started by a server") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidArgumentError(f"spec.{field}" if field else "spec", first["msg"]) from None


FolderJob = Callable[[Path, ProgressReporter], None]
"""Does what is written down in a folder."""


def run_as_job(work: Callable[[ProgressReporter], None]) -> int:
    """Runs ``work``; what goes wrong becomes a line. Returns the exit status."""
    _serve_parent()
    try:
        work(ProgressReporter())
    except Exception as error:  # noqa: BLE001  every error becomes a line
        return _report_failure(to_typed_error(error))
    return 0


def work_as_worker(work: Callable[[dict[str, Any]], None]) -> int:
    """Does a task a line of stdin, each a JSON object, and answers each with a line, until stdin ends.

    ``quarry.jobs.job_worker`` is the other end. Returns the exit status.
    """
    _serve_parent(WAITED_FOR_NICENESS)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    with _open_tasks_and_answers() as (tasks, answers):
        for line in tasks:
            try:
                work(orjson.loads(line))
                answer: dict[str, Any] = {"done": True}
            except Exception as error:  # noqa: BLE001  every error becomes a line
                answer = {"error": dump_error(to_typed_error(error))}
            answers.write(orjson.dumps(answer) + b"\n")
            answers.flush()
    return 0


@contextmanager
def _open_tasks_and_answers() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yields what stdin and stdout were. A library that asks something gets no task; what it prints is
    logged."""
    with os.fdopen(os.dup(0), "rb") as tasks, os.fdopen(os.dup(1), "wb") as answers:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        yield tasks, answers


def _serve_parent(niceness: int = NICENESS) -> None:
    """Takes little from other processes, and ends with the server that has started this one."""
    _give_way(niceness)
    if parent := os.environ.get(PARENT):
        die_with(int(parent))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the server decides


def to_typed_error(error: Exception) -> QuarryError:
    """Makes the error that a server is told of an error in one of its jobs."""
    if isinstance(error, QuarryError):
        return error
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return NO_MEMORY
    if isinstance(error, RecursionError):
        return LimitExceededError("what the job reads is nested too deeply")
    if is_disk_full(error):
        return DiskFullError("the disk that holds the job's data is full")
    logger.error("the job failed with an error that has no type", exc_info=error)
    return QuarryError(f"internal error: {type(error).__name__}: {quote_error(error)}")


def _report_failure(error: QuarryError) -> int:
    _to_stdout(orjson.dumps({"error": dump_error(error)}))
    return 1


def dump_error(error: QuarryError) -> dict[str, Any]:
    """Writes an error so that ``quarry.jobs.process`` makes one of the same kind from it."""
    kind = next(kind for kind in KINDS if isinstance(error, kind))
    wrong = isinstance(error, InvalidArgumentError)
    return {
        "kind": kind.__name__,
        "reason": error.reason,
        "field": error.field if isinstance(error, InvalidArgumentError) else "",
        "message": error.problem if isinstance(error, InvalidArgumentError) else str(error),
        "metadata": {} if wrong else dict(error.metadata),
    }


def run_job(module: str, jobs: Mapping[str, FolderJob], arguments: Sequence[str]) -> int:
    """Runs ``python -m module JOB FOLDER``: does the job of that name. Returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if len(arguments) != 2 or arguments[0] not in jobs:
        sys.stderr.write(f"usage: python -m {module} {'|'.join(jobs)} FOLDER\n")
        return USAGE
    work, folder = jobs[arguments[0]], Path(arguments[1])
    return run_as_job(lambda progress: work(folder, progress))


def count_job_threads() -> int:
    """Counts half of the processors that this process may use, one at least: the other half is for
    searches."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, usable // 2)


def _give_way(niceness: int) -> None:
    """Lets whatever else runs on this machine go first, and keep its memory."""
    os.nice(niceness)
    ask_to_be_killed_first()
    if sys.platform == "linux":
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, usable[-count_job_threads() :])  # caps the threads of every library at once
        # Batch: a job that wakes up does not interrupt a search.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _to_stdout(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
