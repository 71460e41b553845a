"""Writes while another generation takes over: they wait, and end on what serves then."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from quarry.collections.collection_handle import CollectionHandle
from quarry.deadline import Deadline
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.log import Upsert, WriteOutcome
from quarry.documents.store import RequestId
from quarry.documents.view import View, make_view
from quarry.errors import InvalidArgumentError
from quarry.schema import Field, FieldType, Schema
from quarry.types import Document, Fields

REQUEST = RequestId("", "upsert", b"")
TAG = frozenset({"tag"})


class Log:
    """Keeps what is written; a commit takes until it is allowed."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.written: list[str] = []
        self.commit = asyncio.Event()
        self.commit.set()

    async def upsert(self, upserts: Sequence[Upsert], request: RequestId) -> list[WriteOutcome]:
        await self.commit.wait()
        first = len(self.written) + 1
        self.written += [upsert.id for upsert in upserts]
        return [WriteOutcome(upsert.id, version) for version, upsert in enumerate(upserts, first)]

    async def update(self, id: str, change: Any, *_: Any) -> Document:
        return Document(1, id, change({}), 1, 0)  # type: ignore[arg-type]


class Followers:
    """A generation that sees what it is told to see."""

    def __init__(self) -> None:
        self.followers: dict[str, Any] = {}
        self.told = 0
        self.seen = asyncio.Event()

    def notify(self) -> None:
        self.told += 1

    async def wait_visible(self, sequence: int, timeout_s: float | None, after: int = 0) -> bool:
        await self.seen.wait()
        return True


def opened(kind: FieldType) -> Any:
    schema = Schema((Field("text", FieldType.TEXT), Field("tag", kind)))
    collection = Collection(1, CollectionSettings("c", schema, "none"), "g", 0, 0, 1, 0, 0, TAG)
    return CollectionHandle(collection, Log(make_view(schema, TAG)), Followers())  # type: ignore[arg-type]


@pytest.fixture
def old() -> Any:
    return opened(FieldType.KEYWORD)


@pytest.fixture
def new(old: Any) -> Any:
    new = opened(FieldType.INTEGER)
    old.generations.add(new.generation)
    new.generations = old.generations
    return new


def upsert(collection: Any, *tags: Any, wait: bool = False) -> "asyncio.Task[Any]":
    upserts = [Upsert(f"{tag}", {"text": "t", "tag": tag}) for tag in tags]
    return asyncio.create_task(collection.upsert(upserts, REQUEST, wait, Deadline()))


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_switch_waits_for_the_writes_that_have_begun(old: Any) -> None:
    old.log.commit.clear()
    begun = upsert(old, "1")
    await turns()
    held = asyncio.create_task(old.hold_writes().__aenter__())
    await turns()
    assert not held.done()
    old.log.commit.set()
    async with asyncio.timeout(10):
        await begun
        await held
    assert old.log.written == ["1"]


async def test_a_write_that_comes_during_a_switch_is_done_by_what_serves_then(old: Any, new: Any) -> None:
    async with old.hold_writes():
        waiting = upsert(old, "1", "one", "2")
        await turns()
        assert old.log.written == new.log.written == []
        old.successor = new
    written = await waiting
    assert (old.log.written, new.log.written) == ([], ["1", "2"])
    assert [outcome.version for outcome in written.outcomes] == [1, 0, 2]
    error = written.outcomes[1].error
    assert isinstance(error, InvalidArgumentError)
    assert error.field == "fields.tag"


async def test_a_switch_that_fails_lets_writes_go_on(old: Any) -> None:
    with pytest.raises(RuntimeError):
        async with old.hold_writes():
            waiting = upsert(old, "1")
            await turns()
            raise RuntimeError
    await waiting
    assert old.log.written == ["1"]


async def test_every_generation_hears_of_a_write(old: Any, new: Any) -> None:
    await upsert(old, "1")
    await turns()
    assert (old.generation.told, new.generation.told) == (1, 1)


async def test_searchable_means_by_what_serves_when_the_call_ends(old: Any, new: Any) -> None:
    waiting = upsert(old, "1", wait=True)
    await turns()
    old.successor = new
    old.generation.seen.set()
    await turns()
    assert not waiting.done(), "the next search asks the new generation, which does not have it"
    new.generation.seen.set()
    assert (await waiting).searchable


async def test_what_becomes_searchable_during_a_switch_is_so_when_the_switch_has_ended(
    old: Any, new: Any
) -> None:
    waiting = upsert(old, "1", wait=True)
    await turns()
    async with old.hold_writes():  # the new generation is held to what is visible here now
        old.generation.seen.set()
        await turns()
        assert not waiting.done(), "the next search may ask the new generation, which does not have it"
        old.successor = new
    await turns()
    assert not waiting.done()
    new.generation.seen.set()
    assert (await waiting).searchable


async def test_a_switch_that_outlasts_the_deadline_leaves_a_write_unseen(old: Any) -> None:
    upserts = [Upsert("1", {"text": "t", "tag": "1"})]
    waiting = asyncio.create_task(old.upsert(upserts, REQUEST, True, Deadline.set_after(0.3)))
    await turns()
    async with old.hold_writes(), asyncio.timeout(10):
        old.generation.seen.set()
        written = await waiting
    assert (written.sequence, written.searchable) == (1, False)


async def test_an_update_is_checked_against_what_serves_then(old: Any, new: Any) -> None:
    def tag(value: str) -> Any:
        def change(fields: Fields) -> Fields:
            return fields | {"tag": value}

        return old.update("a", change, None, True, REQUEST, False, Deadline())

    old.successor = new
    document, _ = await tag("7")
    assert document.id == "a"
    with pytest.raises(InvalidArgumentError, match=r"^document\.fields\.tag: ") as caught:
        await tag("seven")
    assert caught.value.field == "document.fields.tag"
