"""A job's process reports, fails and ends as its server wants."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel

from quarry.errors import (
    KINDS,
    FailedPreconditionError,
    InvalidArgumentError,
    LimitExceededError,
    NoFeedbackError,
    NotFoundError,
    QuarryError,
)
from quarry.jobs.child import ProgressReporter, dump_error, read_spec
from quarry.jobs.process import JobKilledError, check_installed, load_error, run_process

BEGIN = "import sys, time, os\nfrom quarry.jobs.child import run_as_job\n"
END = "\nsys.exit(run_as_job(work))\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is run as the module ``some_job``."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path / "some_job.py"


def wrote(module: Path, text: str) -> None:
    module.write_text(text)


async def run(said: list[tuple[str, float]]) -> None:
    async def on_progress(stage: str, progress: float) -> None:
        said.append((stage, progress))

    await run_process("some_job", [], on_progress)


async def test_progress_and_success(module: Path) -> None:
    body = "def work(progress):\n progress('one', 0.1)\n print('not JSON', flush=True)\n progress('two', 1)"
    wrote(module, BEGIN + body + END)
    said: list[tuple[str, float]] = []
    await run(said)
    assert said == [("one", 0.1), ("two", 1.0)]


async def test_a_typed_error_keeps_its_type_and_field(module: Path) -> None:
    body = "from quarry.errors import *\ndef work(p):\n raise InvalidArgumentError('preset', 'is unknown')"
    wrote(module, BEGIN + body + END)
    with pytest.raises(InvalidArgumentError) as raised:
        await run([])
    assert (raised.value.field, raised.value.problem) == ("preset", "is unknown")


async def test_an_untyped_error_is_internal(module: Path) -> None:
    wrote(module, BEGIN + "def work(p):\n raise KeyError('x')" + END)
    with pytest.raises(QuarryError, match="KeyError") as raised:
        await run([])
    assert raised.value.reason == "INTERNAL"


async def test_a_process_that_dies_without_a_word_says_how(module: Path) -> None:
    wrote(module, BEGIN + "def work(p):\n os.kill(os.getpid(), 9)" + END)
    with pytest.raises(JobKilledError, match="SIGKILL"):
        await run([])
    wrote(module, "raise SystemExit(3)")
    with pytest.raises(JobKilledError, match="status 3"):
        await run([])


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_cancelled_job_is_ended_even_if_it_is_deaf(
    module: Path, deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry.jobs.process.TERM_GRACE_S", 0.5)
    ignore = "import signal\n signal.signal(signal.SIGTERM, signal.SIG_IGN)\n " if deaf else ""
    body = f"def work(progress):\n {ignore}progress(str(os.getpid()), 0)\n time.sleep(60)"
    wrote(module, BEGIN + body + END)
    begun: asyncio.Queue[str] = asyncio.Queue()

    async def on_progress(stage: str, _progress: float) -> None:
        begun.put_nowait(stage)

    task = asyncio.create_task(run_process("some_job", [], on_progress))
    pid = int(await begun.get())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pid)


async def test_a_job_is_niced_and_has_half_of_the_processors(module: Path) -> None:
    body = (
        'def work(progress):\n progress(f"{os.nice(0)} {len(os.sched_getaffinity(0))} '
        "{os.environ['OMP_NUM_THREADS']}\", 0)"
    )
    wrote(module, BEGIN + body + END)
    said: list[tuple[str, float]] = []
    await run(said)
    half = max(1, len(os.sched_getaffinity(0)) // 2)
    assert said[0][0] == f"19 {half} {half}"


async def test_a_job_keeps_the_memory_that_it_frees_unless_somebody_says_otherwise(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = '" ".join(value for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_"))'
    body = f"def work(progress):\n progress({told}, 0)"
    wrote(module, BEGIN + body + END)
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    said: list[tuple[str, float]] = []
    await run(said)
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "9")
    await run(said)
    assert [stage for stage, _ in said] == ["0 268435456 8589934592", "9 268435456 8589934592"]


def test_errors_of_every_kind_survive_the_way() -> None:
    for kind in KINDS:
        error = InvalidArgumentError("a.b", "c") if kind is InvalidArgumentError else kind("m", some="x")
        back = load_error(dump_error(error))
        assert type(back) is kind
        assert (str(back), back.reason, back.metadata) == (str(error), error.reason, error.metadata)
    back = load_error(dump_error(NoFeedbackError()))
    assert isinstance(back, FailedPreconditionError)
    assert back.reason == "NO_FEEDBACK"


def test_lines_of_one_stage_that_come_too_fast_are_left_out() -> None:
    lines: list[bytes] = []
    progress = ProgressReporter(lines.append)
    for step in range(1_000):
        progress("a", step / 1_000)
    progress("b", 1.0)
    assert 2 <= len(lines) < 20
    assert b'"b"' in lines[-1]


def test_what_is_not_installed_is_named_with_what_to_type() -> None:
    check_installed("miner", ["asyncio"])
    with pytest.raises(FailedPreconditionError, match=r"pip install quarry-search\[miner\]"):
        check_installed("miner", ["no_such_module"])


async def test_details_come_before_their_stage_and_only_as_numbers(module: Path) -> None:
    body = (
        "def work(progress):\n progress('one', 0.1)\n"
        " progress('two', 0.2, {'step': 3, 'loss': float('nan')})\n print('[1]\\n7\\n{}', flush=True)"
    )
    wrote(module, BEGIN + body + END)
    heard: list[object] = []

    async def on_progress(stage: str, progress: float) -> None:
        heard.append((stage, progress))

    await run_process("some_job", [], on_progress, heard.append)
    assert heard == [("one", 0.1), {"step": 3.0}, ("two", 0.2)]


def test_without_details_a_line_has_none() -> None:
    lines: list[bytes] = []
    ProgressReporter(lines.append)("a", 0.5)
    ProgressReporter(lines.append)("a", 0.5, {"loss": 0.25})
    assert lines == [
        b'{"stage":"a","progress":0.5}',
        b'{"stage":"a","progress":0.5,"details":{"loss":0.25}}',
    ]


@pytest.mark.parametrize(
    "raised",
    [
        "OSError(28, 'No space left on device')",
        "RuntimeError('[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0')",
        "ValueError('Error while serializing: I/O error: No space left on device (os error 28)')",
    ],
)
async def test_a_full_disk_is_typed_however_it_is_told(module: Path, raised: str) -> None:
    body = f"def work(p):\n try:\n  raise {raised}\n except Exception as e:\n  raise RuntimeError('x') from e"
    wrote(module, BEGIN + body + END)
    with pytest.raises(LimitExceededError) as told:
        await run([])
    assert told.value.reason == "DISK_FULL"


async def test_another_system_error_is_no_full_disk(module: Path) -> None:
    wrote(module, BEGIN + "def work(p):\n raise OSError(13, 'Permission denied')" + END)
    with pytest.raises(QuarryError) as told:
        await run([])
    assert told.value.reason == "INTERNAL"


class Asked(BaseModel):
    count: int


def test_a_spec_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_spec(tmp_path / "spec.json", Asked)
    for content, field in (("{", "spec"), ('{"count": "x"}', "spec.count")):
        (tmp_path / "spec.json").write_text(content)
        with pytest.raises(InvalidArgumentError) as raised:
            read_spec(tmp_path / "spec.json", Asked)
        assert raised.value.field == field
    (tmp_path / "spec.json").write_text('{"count": 3}')
    assert read_spec(tmp_path / "spec.json", Asked) == Asked(count=3)


async def test_a_job_that_takes_too_much_memory_ends_with_a_typed_error(module: Path) -> None:
    body = "def work(p):\n kept = [bytearray(b'x') * 2**20 for _ in range(8_000)]\n p('done', 1.0)"
    wrote(module, BEGIN + body + END)
    with pytest.raises(LimitExceededError, match=f"memory_bytes allows: {256 * 2**20} bytes") as raised:
        await run_process("some_job", [], ignored, memory_bytes=256 * 2**20)
    assert raised.value.reason == "LIMIT_EXCEEDED"
    wrote(module, BEGIN + body.replace("8_000", "8") + END)
    await run_process("some_job", [], ignored, memory_bytes=256 * 2**20)


async def test_mapped_files_and_reserved_addresses_are_no_memory(module: Path) -> None:
    (module.parent / "large").write_bytes(bytes(400 * 2**20))
    body = (
        "import mmap\ndef work(p):\n"
        f" with open({str(module.parent / 'large')!r}, 'rb') as file:\n"
        "  mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "  assert sum(mapped[n] for n in range(0, len(mapped), 4096)) == 0\n"
        " reserved = mmap.mmap(-1, 2**36, flags=mmap.MAP_PRIVATE | 0x4000)\n time.sleep(0.5)"
    )
    wrote(module, BEGIN + body + END)
    await run_process("some_job", [], ignored, memory_bytes=256 * 2**20)


@pytest.mark.parametrize(
    "raised", ["MemoryError", 'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: 7 bytes")']
)
async def test_an_allocation_that_fails_is_typed(module: Path, raised: str) -> None:
    wrote(module, BEGIN + f"def work(p):\n raise {raised}" + END)
    with pytest.raises(LimitExceededError, match="more memory than the machine"):
        await run([])


async def test_the_kernel_ends_a_job_before_its_server(module: Path) -> None:
    body = "def work(progress):\n progress(open('/proc/self/oom_score_adj').read().strip(), 0)"
    wrote(module, BEGIN + body + END)
    said: list[tuple[str, float]] = []
    await run(said)
    assert said[0][0] == "1000"


async def ignored(_stage: str, _progress: float) -> None:
    pass
