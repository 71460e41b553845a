"""Data folders that are copied, damaged and looked into."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tests.integration.crash.oracle import document_of
from tests.integration.crash.server import CALL_S, Client, Server, ServerEnded

from quarry.storage.trusted_clock import DAY_US
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import feedback_service_pb2 as feedback_pb
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub

THINGS, DOCUMENTS, EVENTS = "things", 150, 3
UPKEEP_DONE = "the upkeep of the feedback log removed"


async def leave_feedback(channel: grpc.aio.Channel, token: str) -> None:
    events = [
        feedback_pb.Event(
            event_id=f"event-{n}",
            type=feedback_pb.EVENT_TYPE_CLICK,
            attribution_token=token,
            document_id="0001",
        )
        for n in range(EVENTS)
    ]
    request = feedback_pb.RecordEventsRequest(collection=THINGS, events=events)
    answer = await FeedbackServiceStub(channel).RecordEvents(request, timeout=CALL_S)
    assert not any(status.status.code for status in answer.statuses)


def empty(name: str) -> Callable[[Path], None]:
    def damage(data: Path) -> None:
        (data / name).write_bytes(b"")
        (data / f"{name}-wal").unlink(missing_ok=True)

    return damage


def lose(name: str) -> Callable[[Path], None]:
    return lambda data: (data / name).unlink()


def be_of_another_folder(data: Path) -> None:
    set_mark(data / "feedback.db", "identity", "another")


def be_older(data: Path) -> None:
    """The log is put back to a time at which there was no collection."""
    with changing(data / "documents.db") as connection:
        for table in ("documents", "collections", "model_versions", "sqlite_sequence"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608


def lose_documents(data: Path) -> None:
    """As a torn copy does it: the rows are gone, their number is not."""
    with changing(data / "documents.db") as connection:
        connection.execute("DELETE FROM documents WHERE version > 100")


def lose_versions(data: Path) -> None:
    shutil.copytree(data / "registry" / "1" / "1", data / "registry" / "1" / "2")
    with changing(data / "documents.db") as connection:
        connection.execute("DELETE FROM model_versions")


def open_to_all(data: Path) -> None:
    data.chmod(0o755)
    for file in data.glob("*.db"):
        file.chmod(0o644)


def open_to_others(data: Path) -> list[Path]:
    return [path for path in [data, *data.rglob("*")] if path.stat().st_mode & 0o077]


def garble_middle(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))


def copy_databases(data: Path, target: Path) -> None:
    """What `cp *.db` does."""
    target.mkdir()
    for file in data.glob("*.db"):
        shutil.copy(file, target)


def make_feedback_older(data: Path, days: int) -> None:
    with changing(data / "feedback.db") as connection:
        for table in ("impressions", "events"):
            older = f"UPDATE {table} SET received_us = received_us - ?"  # noqa: S608
            connection.execute(older, (days * DAY_US,))


async def upsert_texts(client: Client, texts: dict[str, str]) -> None:
    documents = [document_of(id, {"text": text, "colour": "red"}) for id, text in texts.items()]
    request = documents_pb.BatchUpsertDocumentsRequest(collection=THINGS, documents=documents)
    await client.documents.BatchUpsertDocuments(request, timeout=CALL_S)


async def refused_start(data: Path, encoder: Path, **settings: str) -> str:
    """What a server says that must not start."""
    data.with_name("server.log").unlink(missing_ok=True)
    with pytest.raises(ServerEnded) as ended:
        await Server.start(data, encoder, **settings)
    assert ended.value.status == 1
    return ended.value.said


async def stats_of(channel: grpc.aio.Channel) -> feedback_pb.GetFeedbackStatsResponse:
    request = feedback_pb.GetFeedbackStatsRequest(collection=THINGS)
    return await FeedbackServiceStub(channel).GetFeedbackStats(request, timeout=CALL_S)


async def events_counted(server: Server) -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        return sum(count.count for count in (await stats_of(channel)).events)


def contents(data: Path) -> dict[str, int]:
    """The files of a folder, by path, with a hash of what is in them; locks and memory maps left out."""
    return {
        path.relative_to(data).as_posix(): hash(path.read_bytes())
        for path in data.rglob("*")
        if path.is_file() and path.name != "lock" and not path.name.endswith("-shm")
    }


@contextlib.contextmanager
def changing(path: Path):  # type: ignore[no-untyped-def]
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def set_mark(path: Path, name: str, value: str) -> None:
    with changing(path) as connection:
        assert connection.execute("UPDATE marks SET value = ? WHERE name = ?", (value, name)).rowcount == 1
