"""Changes of a collection that meet its deletion."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.crash.server import CALL_S

from quarry.collections.collections import Collections
from quarry.collections.data_folder import DataFolder
from quarry.deadline import Deadline
from quarry.documents.catalog import CollectionSettings
from quarry.documents.store import Database, RequestId
from quarry.errors import CollectionNotFoundError, DataLossError
from quarry.retrieval.base import ExcerptIndex
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.excerpts.excerpt_index import TantivyExcerptIndex
from quarry.schema import Field, FieldType, Schema


class SlowIndex(TantivyIndex):
    """Says when it begins to close, and closes when it may."""

    closing, may_close = threading.Event(), threading.Event()

    def close(self) -> None:
        self.closing.set()
        assert self.may_close.wait(CALL_S)
        super().close()


class LexicalEngines:
    """Opens no dense stores."""

    def open_lexical(self, folder: Path, generation: str, schema: Schema) -> SlowIndex:
        return SlowIndex(folder, generation, schema)

    def open_excerpts(self, folder: Path, generation: str, schema: Schema) -> ExcerptIndex:
        return TantivyExcerptIndex(folder, generation, schema)

    async def open_dense(self, *_: Any) -> Any:
        raise AssertionError


class NoModels:
    async def load_dense_parts(self, settings: CollectionSettings) -> None:
        return None

    def hold_rerankers(self, names: Any) -> Any:
        return contextlib.nullcontext()

    def make_reranking(self, *_: Any) -> Any:
        return None


@pytest.fixture
async def open_collections(tmp_path: Path) -> AsyncIterator[Collections]:
    """One with a collection ``faq``, whose index closes when it may."""
    SlowIndex.closing.clear()
    SlowIndex.may_close.clear()
    folder = DataFolder(tmp_path / "data")
    database = Database(folder.open_documents())
    open_collections = Collections(folder, database, LexicalEngines(), NoModels(), 1)
    await open_collections.open()
    schema = Schema((Field("text", FieldType.TEXT),))
    await open_collections.create(CollectionSettings("faq", schema, "none"), RequestId("", "create", b""))
    try:
        yield open_collections
    finally:
        SlowIndex.may_close.set()
        await open_collections.close()
        folder.close()


def contradict_log(open_collections: Collections) -> None:
    """From now on a repair makes new indexes."""
    with open_collections.use("faq") as collection:
        for follower in collection.generation.followers.values():
            follower.halted = DataLossError("for the test")


async def test_a_deletion_waits_for_indexes_that_a_repair_still_closes(open_collections: Collections) -> None:
    told: list[bool] = []

    async def tell(gone: Any) -> None:
        told.append(await asyncio.to_thread(open_collections.folder.locate(gone.key).exists))

    open_collections.notify_when_deleted(tell)
    contradict_log(open_collections)
    repairing = asyncio.create_task(open_collections.repair("faq", Deadline.set_after(CALL_S)))
    await asyncio.to_thread(SlowIndex.closing.wait, CALL_S)
    deleting = asyncio.create_task(open_collections.delete("faq", None))
    while "faq" in open_collections.names:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(deleting), 0.5)
    assert not told
    SlowIndex.may_close.set()
    await deleting
    assert told == [False]
    with contextlib.suppress(Exception):
        await repairing


async def test_a_deletion_that_leaves_files_stands_and_is_told(
    open_collections: Collections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def tell(gone: Any) -> None:
        told.append(gone.settings.name)

    def fail(folder: Path) -> None:
        raise OSError("not empty")

    open_collections.notify_when_deleted(tell)
    monkeypatch.setattr("quarry.collections.collections.remove_folder", fail)
    SlowIndex.may_close.set()
    await open_collections.delete("faq", None)
    assert told == ["faq"]
    assert "is left: not empty" in caplog.text


async def test_a_repair_of_a_collection_that_is_deleted_meanwhile_says_so(
    open_collections: Collections,
) -> None:
    SlowIndex.may_close.set()
    contradict_log(open_collections)
    deleting = asyncio.create_task(
        open_collections.delete("faq", None)
    )  # comes first, and has begun when the repair asks
    repairing = asyncio.create_task(open_collections.repair("faq", Deadline.set_after(CALL_S)))
    await deleting
    with pytest.raises(CollectionNotFoundError):
        await repairing
