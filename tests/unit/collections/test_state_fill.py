"""States are stored behind indexing, whatever fails on the way, and nobody waits for it."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from quarry.collections.state_fill import RETRY_S, StateFill
from quarry.errors import CollectionNotFoundError, DiskFullError, ModelError


class Keeper:
    """Notes what it is to store; raises ``error`` while there is one, and has no room beyond ``room``.

    Attributes:
        meanwhile: is called while it works.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.error: Exception | None = None
        self.room = 1_000
        self.meanwhile: Callable[[], object] = int

    def keep(self, passages: Sequence[str]) -> bool:
        self.meanwhile()
        if self.error is not None:
            raise self.error
        if len(self.kept) + len(passages) > self.room:
            return False
        self.kept += passages
        return True


class Documents:
    """A collection's log and passages, of which each document has one: its text."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def read_changes(self, after: int, max_rows: int, max_bytes: int) -> list[Any]:
        found = enumerate(self.texts[after : after + max_rows], after + 1)
        return [SimpleNamespace(version=version, fields=text) for version, text in found]

    def read_last_sequence(self) -> int:
        return len(self.texts)

    async def cut_passages(self, documents: Sequence[str]) -> list[list[str]]:
        return [[text] for text in documents]


class Collections:
    """Collections that all have the same cascade, and the models that are loaded."""

    def __init__(self, **documents: Documents) -> None:
        self.documents = documents
        self.models = {"small": Keeper()}
        self.rerankers = self
        self.users = 0
        self.now_s = 1_000.0

    @property
    def names(self) -> list[str]:
        return list(self.documents)

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[Any]:
        if name not in self.documents:
            raise CollectionNotFoundError(name)
        documents = self.documents[name]
        settings = SimpleNamespace(name=name, reranker="small", rerankers=frozenset({"small", *self.models}))
        generation = SimpleNamespace(name="g1", vectors=documents, visible=documents.read_last_sequence())
        self.users += 1
        try:
            yield SimpleNamespace(
                row=SimpleNamespace(key=self.names.index(name), settings=settings),
                generation=generation,
                log=documents,
            )
        finally:
            self.users -= 1

    def peek(self, name: str) -> Any:
        return SimpleNamespace(keeper=self.models[name]) if name in self.models else None

    def keep_reranker(self, name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def filling(self) -> StateFill:
        return StateFill(self, self, 0.0, lambda: self.now_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error", [ModelError("broken"), DiskFullError("no space"), sqlite3.OperationalError("disk I/O error")]
)
async def test_what_fails_is_said_once_and_tried_again_after_a_while(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    collections = Collections(faq=Documents("a", "b"))
    fill, keeper = collections.filling(), collections.models["small"]
    keeper.error = error
    with caplog.at_level(logging.WARNING, "quarry.collections.state_fill"):
        for _ in range(5):
            await fill.run_once()
    assert len(caplog.records) == 1
    assert "faq" in caplog.text
    keeper.error = None
    await fill.run_once()
    assert keeper.kept == []
    collections.now_s += RETRY_S
    await fill.run_once()
    assert keeper.kept == ["a", "b"]
    await fill.close()


async def test_a_collection_that_fails_does_not_keep_the_others_from_being_filled() -> None:
    class Unreadable(Documents):
        def read_changes(self, after: int, max_rows: int, max_bytes: int) -> list[Any]:
            raise sqlite3.OperationalError("disk I/O error")

    collections = Collections(faq=Unreadable("a"), web=Documents("b"))
    fill = collections.filling()
    await fill.run_once()
    assert collections.models["small"].kept == ["b"]
    await fill.close()


async def test_closing_ends_the_thread_whatever_has_ended_the_filling() -> None:
    class Ended(StateFill):
        async def run_once(self) -> None:
            raise RuntimeError("nobody knows why")

    collections = Collections()
    fill = Ended(collections, collections)  # type: ignore[arg-type]
    fill.start()
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="nobody knows"):
        await fill.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        fill._thread.submit(int)


async def test_a_deletion_does_not_wait_for_the_model() -> None:
    collections = Collections(faq=Documents(*map(str, range(300))))
    fill, keeper, users = collections.filling(), collections.models["small"], []
    keeper.meanwhile = lambda: users.append(collections.users)
    await fill.run_once()
    assert keeper.kept == list(map(str, range(300)))
    assert set(users) == {0}
    await fill.close()


async def test_where_there_is_no_room_it_stops_until_more_is_indexed() -> None:
    documents = Documents(*map(str, range(300)))
    collections = Collections(faq=documents)
    fill, keeper, calls = collections.filling(), collections.models["small"], []
    keeper.room, keeper.meanwhile = 40, lambda: calls.append(1)
    await fill.run_once()
    await fill.run_once()
    assert len(calls) == 2
    documents.texts.append("more")
    await fill.run_once()
    assert len(calls) == 3
    await fill.close()


async def test_every_model_of_a_cascade_finds_its_states() -> None:
    collections = Collections(faq=Documents("a", "b"))
    fill, models = collections.filling(), collections.models
    models["large"], models["broken"] = Keeper(), Keeper()
    models["broken"].error = ModelError("broken")
    await fill.run_once()
    assert models["small"].kept == models["large"].kept == ["a", "b"]
    await fill.close()


async def test_a_model_that_comes_back_begins_anew_for_the_store_may_have_lost_its_states() -> None:
    collections = Collections(faq=Documents("a"))
    fill, models = collections.filling(), collections.models
    models["large"] = large = Keeper()
    await fill.run_once()
    await fill.run_once()
    assert large.kept == ["a"]
    del models["large"]
    await fill.run_once()
    models["large"] = large
    await fill.run_once()
    assert large.kept == ["a", "a"]
    assert models["small"].kept == ["a"]
    await fill.close()
