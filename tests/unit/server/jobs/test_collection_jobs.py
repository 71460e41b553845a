"""Jobs on collections start once for a request id, say how far they are, and go with their collections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_pb2

from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.store import Database, RequestId
from quarry.documents.tables import open_database
from quarry.errors import CollectionNotFoundError, InvalidArgumentError, UnavailableError
from quarry.jobs.operations import Operations
from quarry.jobs.process import OnProgress
from quarry.jobs.runner import ReadDeleted
from quarry.schema import DEFAULT_SCHEMA
from quarry.v1 import training_service_pb2 as pb
from quarry_server.common.jobs import CollectionJobs, OperationPlan
from quarry_server.common.operations import describe_error

FAQ = Collection(7, CollectionSettings("faq", DEFAULT_SCHEMA, "none"), "g", 0, 0, 1, 0, 0)


class FakeLibrary:
    """A library with the collection ``faq``."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.deleted: list[Callable[[Collection], Awaitable[None]]] = []

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[None]:
        if name != "faq":
            raise CollectionNotFoundError(name)
        yield

    def find_name(self, name: str) -> str:
        with self.use(name):
            return name

    async def read_current(self, _name: str) -> Collection:
        return FAQ

    def notify_when_deleted(self, tell: Callable[[Collection], Awaitable[None]]) -> None:
        self.deleted.append(tell)

    async def read_deleted_keys(self) -> set[int]:
        return {3}


class FakeJobs:
    """Jobs that are prepared, can be held, and fail if they are told to."""

    def __init__(self) -> None:
        self.prepared, self.removed = 0, list[set[int]]()
        self.go_on, self.begun = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None

    async def remove_of_deleted(self, read_deleted: ReadDeleted) -> None:
        self.removed.append(set(await read_deleted()))

    async def prepare(self) -> OperationPlan:
        self.prepared += 1
        metadata = pb.TrainingMetadata(collection="faq")

        async def work(on_progress: OnProgress) -> pb.Evaluation:
            metadata.step = 4
            await on_progress("training", 0.5)
            self.begun.set()
            await self.go_on.wait()
            if self.error is not None:
                raise self.error
            return pb.Evaluation(model="faq@1")

        return OperationPlan(metadata, work)


class Served:
    def __init__(self, database: Database) -> None:
        self.open_collections: Any = FakeLibrary(database)
        self.operations = Operations(database.engine, database.writer, describe_error)
        self.jobs = FakeJobs()
        self.calls = CollectionJobs(self.open_collections, self.operations, self.jobs)

    async def start(self, id: str = "", request: bytes = b"asked") -> operations_pb2.Operation:
        named = RequestId(id, "train-reranker", request)
        if (started := await self.calls.find_started(FAQ, named)) is not None:
            return started
        return await self.calls.start_once(FAQ, named, "train-reranker", await self.jobs.prepare())

    async def end(self, operation: operations_pb2.Operation) -> Any:
        """Returns the operation's row when it has ended."""
        return await self.operations.wait(operation.name.removeprefix("operations/"), None)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    database = Database(open_database(tmp_path / "documents.db"))
    served = Served(database)
    yield served
    await served.operations.close()
    database.close()


def metadata_of(row: Any) -> pb.TrainingMetadata:
    message = operations_pb2.Operation()
    message.metadata.ParseFromString(row.metadata)
    metadata = pb.TrainingMetadata()
    assert message.metadata.Unpack(metadata)
    return metadata


async def test_an_operation_says_how_far_it_is_and_answers(served: Served) -> None:
    operation = await served.start()
    await served.jobs.begun.wait()
    now = metadata_of(await served.operations.get(operation.name.removeprefix("operations/")))
    assert (now.stage, now.progress, now.step) == ("training", 0.5, 4)
    served.jobs.go_on.set()
    row = await served.end(operation)
    assert (metadata_of(row).stage, metadata_of(row).progress) == ("done", 1.0)
    assert b"faq@1" in row.response


async def test_a_repeated_request_finds_the_operation_and_is_not_checked_again(served: Served) -> None:
    first = await served.start("id-1")
    assert (await served.start("id-1")).name == first.name
    served.jobs.go_on.set()
    await served.end(first)
    again = await served.start("id-1")
    assert (again.name, again.done) == (first.name, True)
    assert served.jobs.prepared == 1


async def test_requests_that_come_together_start_one_operation(served: Served) -> None:
    started = await asyncio.gather(*(served.start("id-1") for _ in range(5)))
    assert len({operation.name for operation in started}) == 1
    assert len(await served.operations.read_page("", 10)) == 1


async def test_a_caller_that_goes_leaves_no_operation_that_nobody_runs(served: Served) -> None:
    served.jobs.go_on.set()
    for number in range(40):
        call = asyncio.create_task(served.start(f"id-{number}"))
        await asyncio.sleep(number / 4_000)
        call.cancel()
        await asyncio.wait([call])
        async with asyncio.timeout(30):
            assert (await served.end(await served.start(f"id-{number}"))).done


async def test_an_id_of_another_request_is_refused_and_none_starts_one_each_time(served: Served) -> None:
    await served.start("id-1")
    with pytest.raises(InvalidArgumentError, match="for another request"):
        await served.start("id-1", b"something else")
    assert (await served.start()).name != (await served.start()).name


async def test_a_failed_operation_says_why_and_a_cancelled_one_too(served: Served) -> None:
    served.jobs.error = UnavailableError("killed")
    failed, cancelled = await served.start(), await served.start()
    await served.jobs.begun.wait()
    await served.operations.cancel(cancelled.name.removeprefix("operations/"))
    assert b"cancelled" in (await served.end(cancelled)).error
    served.jobs.go_on.set()
    row = await served.end(failed)
    assert b"killed" in row.error
    assert metadata_of(row).stage == "training"


async def test_what_is_of_deleted_collections_goes_at_the_start_and_later(served: Served) -> None:
    await served.calls.tidy()
    assert served.jobs.removed == [{3}]
    (tell,) = served.open_collections.deleted
    await tell(FAQ)
    assert served.jobs.removed == [{3}, {3}]


async def test_a_collection_that_is_not_there_is_named(served: Served) -> None:
    assert await served.calls.find_collection("faq") == FAQ
    with pytest.raises(CollectionNotFoundError):
        await served.calls.find_collection("other")
