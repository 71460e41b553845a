"""Jobs that run in a process of their own: started low, followed line by line, ended with their server."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import orjson

from quarry.errors import KINDS, FailedPreconditionError, InvalidArgumentError, QuarryError, UnavailableError
from quarry.jobs.child import PARENT, count_job_threads
from quarry.jobs.memory_watch import MemoryWatch
from quarry.waiting import finish_undisturbed

logger = logging.getLogger(__name__)

TERM_GRACE_S = 5.0
MAX_LINE_BYTES = 2**20
KEPT_LOG_LINES = 20
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)

_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""For glibc, which gives large arrays back to the system as soon as they are freed: each step of a training
would take them again, with a page fault for every 4 KiB. A job gives everything back when it ends."""

OnProgress = Callable[[str, float], Awaitable[None]]
"""Gets the stage, and progress of the whole job, 0 to 1."""

OnDetails = Callable[[Mapping[str, float]], None]
"""Gets the numbers that came with a stage, just before ``OnProgress`` gets the stage."""


class RunProcess(Protocol):
    """Runs a module's main with arguments, as ``run_process`` does."""

    def __call__(
        self, module: str, arguments: list[str], on_progress: OnProgress, on_details: OnDetails
    ) -> Coroutine[Any, Any, None]: ...


def ignore_details(_details: Mapping[str, float]) -> None:
    """Ignores details: the ``OnDetails`` of jobs that say no more than how far they are."""


class JobKilledError(UnavailableError):
    """The job's process ended without a word. Made again, the job goes on where it was."""

    reason = "JOB_KILLED"


def check_installed(extra: str, modules: Sequence[str]) -> None:
    """Raises FailedPreconditionError, with what to type, if one of ``modules`` is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise FailedPreconditionError(
                f"{module} is not installed on the server: pip install quarry-search[{extra}]", module=module
            )


async def run_process(
    module: str,
    arguments: Sequence[str],
    on_progress: OnProgress,
    on_details: OnDetails = ignore_details,
    *,
    memory_bytes: int = 0,
) -> None:
    """Runs ``python -m module arguments`` to its end. Cancelled, it ends the process, and then itself.

    Args:
        memory_bytes: most memory that the process may take; 0 for no limit.

    Raises:
        QuarryError: the one that the job reported.
        LimitExceededError: it was ended for its memory.
        JobKilledError: it ended without reporting one.
    """
    process = await start(module, arguments, stdin=asyncio.subprocess.DEVNULL)
    watch = MemoryWatch(process, memory_bytes)
    last_words: deque[str] = deque(maxlen=KEPT_LOG_LINES)
    logging_its_words = asyncio.create_task(log_stderr(process, module, last_words))
    try:
        error = await _follow(process, on_progress, on_details)
        status = await process.wait()
    finally:
        await finish_undisturbed(end_process(process))
        watch.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(logging_its_words, TERM_GRACE_S)
    if error is not None:
        raise error
    if status != 0:
        raise watch.find_problem(status) or describe_kill(module, status, last_words)


async def start(
    module: str, arguments: Sequence[str], stdin: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    """Starts ``python -m module arguments``, its stdout and stderr piped, on half of the processors."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        module,
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        env={**_ALLOCATOR, **os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(count_job_threads()))}
        | {"TOKENIZERS_PARALLELISM": "false", PARENT: str(os.getpid())},
    )


def describe_kill(module: str, status: int, last_words: Sequence[str]) -> JobKilledError:
    """Makes an error of the end of a process that reported none; logs what it said last."""
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    logger.error("%s ended with %s; it said last:\n%s", module, how, "\n".join(last_words))
    return JobKilledError(f"the job's process ended with {how}: make the same request again to go on")


async def _follow(
    process: asyncio.subprocess.Process, on_progress: OnProgress, on_details: OnDetails
) -> QuarryError | None:
    """Passes progress on until the process closes its stdout; returns the error that it reported."""
    error: QuarryError | None = None
    assert process.stdout is not None  # noqa: S101  it was asked for
    async for line in process.stdout:
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict) or not said.keys() & {"stage", "error"}:
            logger.info("a job printed: %s", line.decode(errors="replace").rstrip())
            continue
        if "error" in said:
            error = load_error(said["error"])
        else:
            if details := said.get("details"):
                on_details({name: float(value) for name, value in details.items() if value is not None})
            await on_progress(str(said["stage"]), float(said["progress"]))
    return error


def load_error(said: dict[str, Any]) -> QuarryError:
    """Loads an error: the inverse of ``quarry.jobs.child.dump_error``."""
    kind = {kind.__name__: kind for kind in KINDS}.get(said["kind"], QuarryError)
    error = (
        InvalidArgumentError(said["field"], said["message"])
        if kind is InvalidArgumentError
        else kind(said["message"], **said["metadata"])
    )
    error.reason = said["reason"]
    return error


async def log_stderr(process: asyncio.subprocess.Process, module: str, last_words: deque[str]) -> None:
    """Logs the lines of the process's stderr until it closes, and keeps the last ones."""
    assert process.stderr is not None  # noqa: S101  it was asked for
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # longer than a line may be: the reader has dropped it
            continue
        if not line:
            return
        text = line.decode(errors="replace").rstrip()
        last_words.append(text)
        logger.info("%s: %s", module, text)


async def end_process(process: asyncio.subprocess.Process) -> None:
    """Sends SIGTERM to the process, and SIGKILL to what does not go."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), TERM_GRACE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
