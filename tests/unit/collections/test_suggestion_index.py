"""The index of suggestions is opened for all who ask, and goes while they do."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.documents.database import new_collection

from quarry.collections import suggestions
from quarry.collections.suggestions import SuggestionIndex
from quarry.deadline import Deadline
from quarry.documents.log import Upsert, upsert_documents
from quarry.documents.store import Database, DocumentLog
from quarry.documents.tables import open_database
from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.base import ExcerptIndex, ExcerptQuery, TypedWord
from quarry.retrieval.lexical.excerpts.excerpt_index import TantivyExcerptIndex
from quarry.schema import DEFAULT_SCHEMA, Schema
from quarry.types import Change

WAIT_S = 20.0
RED = ExcerptQuery((TypedWord("red", ends=True),), in_titles=False)


class Gate:
    """Something that blocks, where a test says so, until the test says go."""

    def __init__(self) -> None:
        self.entered, self._open = threading.Event(), threading.Event()
        self._open.set()

    def shut(self) -> None:
        self._open.clear()
        self.entered.clear()

    def open(self) -> None:
        self._open.set()

    def enter(self) -> None:
        self.entered.set()
        assert self._open.wait(WAIT_S)


class GatedEngines:
    """Opens real indexes, and counts them."""

    def __init__(self) -> None:
        self.gate, self.opened = Gate(), 0

    def open_excerpts(self, folder: Path, generation: str, schema: Schema) -> ExcerptIndex:
        self.gate.enter()
        self.opened += 1
        return TantivyExcerptIndex(folder, generation, schema)


class GatedLog(DocumentLog):
    """A log that is read through a gate."""

    def __init__(self, database: Database, key: int) -> None:
        super().__init__(database, key)
        self.gate = Gate()

    def read_changes(self, after: int, max_rows: int, max_bytes: int) -> list[Change]:
        self.gate.enter()
        return super().read_changes(after, max_rows, max_bytes)


class Site:
    """An index over a log of one document, and a question that it answers."""

    def __init__(self, folder: Path, log: GatedLog) -> None:
        self.engines, self.log = GatedEngines(), log
        engines: Any = self.engines
        self.index = SuggestionIndex(folder / "suggestions", "g", DEFAULT_SCHEMA, engines, log, 1.0)

    def ask(self) -> "asyncio.Task[int]":
        return asyncio.create_task(self.index.ask(Deadline.set_after(WAIT_S), 0, count_red))


async def count_red(index: ExcerptIndex) -> int:
    return (await asyncio.to_thread(index.find_excerpts, RED, 10, None)).total


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    engine = open_database(tmp_path / "documents.db")
    key = new_collection(engine)
    with engine.begin() as connection:
        upsert_documents(connection, key, [Upsert("a", {"text": "red shoe"})])
    database = Database(engine)
    try:
        yield Site(tmp_path, GatedLog(database, key))
    finally:
        database.close()


async def test_who_gives_up_while_the_index_opens_leaves_it_to_the_others(site: Site) -> None:
    site.engines.gate.shut()
    first, second = site.ask(), site.ask()
    await asyncio.to_thread(site.engines.gate.entered.wait, WAIT_S)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third = site.ask()
    site.engines.gate.open()
    assert [await second, await third] == [1, 1]
    assert site.engines.opened == 1
    await site.index.close()


async def test_an_index_that_closes_is_not_opened_again(site: Site, tmp_path: Path) -> None:
    site.engines.gate.shut()
    asked = site.ask()
    await asyncio.to_thread(site.engines.gate.entered.wait, WAIT_S)
    closing = asyncio.create_task(site.index.close())
    site.engines.gate.open()
    await closing
    for call in (asked, site.ask()):
        with pytest.raises(RetrieverUnavailableError, match="closed"):
            await call
    TantivyExcerptIndex(tmp_path / "suggestions", "g", DEFAULT_SCHEMA).close()  # the folder is free
    assert site.engines.opened == 1


async def test_a_question_whose_index_is_erased_is_asked_once_more(site: Site) -> None:
    asked: list[ExcerptIndex] = []

    async def count_after_erasing(index: ExcerptIndex) -> int:
        asked.append(index)
        if len(asked) == 1:
            await site.index.erase()
        return await count_red(index)

    assert await site.index.ask(Deadline.set_after(WAIT_S), 0, count_after_erasing) == 1
    assert len(asked) == 2

    async def fail(index: ExcerptIndex) -> int:
        asked.append(index)
        raise RetrieverUnavailableError("suggestions", "for the test")

    with pytest.raises(RetrieverUnavailableError, match="for the test"):
        await site.index.ask(Deadline.set_after(WAIT_S), 0, fail)
    assert len(asked) == 3
    await site.index.close()


async def test_what_is_asked_after_an_erasing_waits_until_the_index_is_filled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggestions, "LONGEST_WAIT_S", 0.0)
    assert await site.ask() == 1
    site.log.gate.shut()
    await site.index.erase()
    asked = site.ask()
    await asyncio.to_thread(site.log.gate.entered.wait, WAIT_S)
    await asyncio.wait([asked], timeout=0.1)
    assert not asked.done()
    site.log.gate.open()
    assert await asked == 1
    await site.index.close()
