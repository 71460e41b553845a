"""A full disk is called by its name, and is over when there is space again."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.integration.crash.oracle import document_of
from tests.integration.crash.server import CALL_S, Client, eventually, serving, until
from tests.integration.recovery.small_disk import fill, small_disk
from tests.integration.recovery.test_recovery import refusal

from quarry.errors import DiskFullError
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import DEFAULT_SCHEMA
from quarry.testing import make_tiny_encoder
from quarry.types import Change, Docno
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import search_service_pb2 as search_pb

NAME = "things"
SEARCHABLE = documents_pb.WRITE_VISIBILITY_SEARCHABLE
LOGGED = documents_pb.WRITE_VISIBILITY_LOGGED
NO_GARBAGE_COLLECTOR = "import gc\ngc.disable()\n"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def changes(first: int, count: int) -> list[Change]:
    return [
        Change(Docno(n), n + 1, {"text": " ".join(f"word{n * k % 9_973}" for k in range(1, 60))})
        for n in range(first, first + count)
    ]


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_bm25_index_goes_on_as_soon_as_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mb=8) as disk:
        index = TantivyIndex(disk / "bm25", "g1", DEFAULT_SCHEMA)
        index.apply(changes(0, 10))
        index.commit(10)
        fill(disk / "ballast")
        kept = []
        for _ in range(3):
            with pytest.raises(DiskFullError) as failure:
                index.apply(changes(10, 3_000))
                index.commit(3_010)
            kept.append(failure.value)  # with its traceback, which refers to whatever the frames refer to
        assert index.position.sequence == 10
        (disk / "ballast").unlink()
        index.apply(changes(10, 100))
        index.commit(110)
        assert index.browse(1, None).total == 110
        index.close()


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_bm25_index_that_finds_no_space_when_it_is_made_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mb=8) as disk:
        fill(disk / "ballast")
        with pytest.raises(DiskFullError) as failure:
            TantivyIndex(disk / "bm25", "g1", DEFAULT_SCHEMA)
        (disk / "ballast").unlink()
        TantivyIndex(disk / "bm25", "g1", DEFAULT_SCHEMA).close()
        assert "No space left" in str(failure.value)


async def test_a_search_has_both_arms_again_soon_after_the_disk_of_bm25_is_freed(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's garbage collector is off: nothing may depend on when it runs."""
    data = tmp_path / "data"
    async with serving(data, encoder) as (server, client):
        await create(client, NAME, str(encoder))
        await upsert(client, range(20), SEARCHABLE)
        await server.stop()
    (bm25,) = (data / "collections").glob("*/*/bm25")
    held = shutil.copytree(bm25, tmp_path / "held")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_GARBAGE_COLLECTOR)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    with small_disk(bm25, size_mb=8) as disk:
        shutil.copytree(held, disk, dirs_exist_ok=True)
        async with serving(data, encoder) as (server, client):
            fill(disk / "ballast")
            await upsert(client, range(20, 40), LOGGED)
            await until(lambda: "the bm25 arm fell behind: the disk that holds" in server.log())
            assert [d.stage for d in (await search(client)).degraded]
            (disk / "ballast").unlink()
            answer = await upsert(client, range(40, 50), SEARCHABLE, timeout_s=10)
            assert answer.result.reached == SEARCHABLE
            assert not (await search(client, require_complete=True)).degraded
            assert (await client.consistency(NAME)).consistent
            assert "LockBusy" not in server.log()
            await server.stop()


async def test_a_collection_that_finds_no_space_is_refused_by_name_and_can_be_made_later(
    encoder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with small_disk(data / "collections", size_mb=64) as disk:
        async with serving(data, encoder) as (server, client):
            fill(disk / "ballast")
            code, reason, _ = await refusal(create(client, NAME, "none"))
            assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
            (disk / "ballast").unlink()
            await create(client, NAME, "none")
            await upsert(client, range(20), SEARCHABLE)
            await server.stop()


async def test_a_model_that_finds_no_space_for_its_export_is_refused_by_name(
    encoder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with small_disk(data / "models", size_mb=2) as disk:
        fill(disk / "ballast")
        async with serving(data, encoder) as (server, client):
            code, reason, _ = await refusal(create(client, NAME, str(encoder)))
            assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
            (disk / "ballast").unlink()
            await create(client, NAME, str(encoder))
            await upsert(client, range(20), SEARCHABLE)
            await server.stop()


async def create(client: Client, name: str, encoder: str) -> None:
    request = collections_pb.CreateCollectionRequest(
        collection=collections_pb.Collection(name=name, encoder=encoder)
    )
    await client.collections.CreateCollection(request, timeout=CALL_S)


async def upsert(
    client: Client, numbers: range, wait: documents_pb.WriteVisibility, timeout_s: float = CALL_S
) -> documents_pb.BatchUpsertDocumentsResponse:
    documents = [document_of(f"{n:04}", {"text": f"thing thing{n}"}) for n in numbers]
    request = documents_pb.BatchUpsertDocumentsRequest(collection=NAME, documents=documents, wait=wait)
    return await client.documents.BatchUpsertDocuments(request, timeout=timeout_s)


async def search(client: Client, **settings: bool) -> search_pb.SearchResponse:
    request = search_pb.SearchRequest(collection=NAME, query="thing", page_size=10, **settings)
    return await eventually(lambda: client.search.Search(request, timeout=CALL_S))
