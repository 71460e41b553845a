"""What was deleted is in no byte of the data folder some time later, in a running server and after a kill."""

import contextlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.integration.crash.oracle import document_of
from tests.integration.crash.server import CALL_S, Client, serving, until

from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import search_service_pb2 as search_pb
from quarry.v1 import types_pb2

KEPT, DROPPED = "kept", "dropped"
SOON = {"ERASURE__FILES_S": "0.2", "ERASURE__INDEXES_S": "0"}
LATER = {"ERASURE__FILES_S": "3600", "ERASURE__INDEXES_S": "86400"}
GONE_S = 60.0
MARKER = "zanzibarmarker"
PUBLIC = "everybody may read this, and two collections hold it"
MARKS = {"text": MARKER.encode(), "keyword in BM25": MARKER.encode().hex().encode()}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


async def create(client: Client, name: str, encoder: Path) -> None:
    kinds = {
        "text": collections_pb.SCHEMA_FIELD_TYPE_TEXT,
        "colour": collections_pb.SCHEMA_FIELD_TYPE_KEYWORD,
    }
    fields = [collections_pb.SchemaField(name=field, type=kind) for field, kind in kinds.items()]
    collection = collections_pb.Collection(
        name=name, encoder=str(encoder), schema=collections_pb.Schema(fields=fields)
    )
    await client.collections.CreateCollection(
        collections_pb.CreateCollectionRequest(collection=collection), timeout=CALL_S
    )


async def upsert(client: Client, name: str, documents: Sequence[types_pb2.Document]) -> None:
    request = documents_pb.BatchUpsertDocumentsRequest(
        collection=name,
        documents=documents,
        wait=documents_pb.WRITE_VISIBILITY_SEARCHABLE,
        request_id=f"write-{name}-{len(documents)}",
    )
    answer = await client.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    assert answer.result.reached == documents_pb.WRITE_VISIBILITY_SEARCHABLE


def make_secrets(name: str) -> list[types_pb2.Document]:
    return [
        document_of(f"s{n}", {"text": f"{name} {n} tells {MARKER} to nobody", "colour": f"{MARKER}-{n % 3}"})
        for n in range(20)
    ]


def make_others(name: str) -> list[types_pb2.Document]:
    many = [
        document_of(f"d{n}", {"text": f"{name} document {n} is plain", "colour": "red"}) for n in range(30)
    ]
    return [*many, document_of("public", {"text": PUBLIC, "colour": "red"})]


def read_vectors(data: Path) -> set[bytes]:
    """Reads the bytes of the last four numbers of every vector in the cache."""
    with contextlib.closing(sqlite3.connect(f"file:{data / 'vectors.db'}?mode=ro", uri=True)) as database:
        return {value[-16:] for (value,) in database.execute("SELECT value FROM vector")}


def find(data: Path, marks: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Finds which marks are in which files."""
    found = []
    files = [Path(folder, name) for folder, _, names in os.walk(data) for name in names]
    for path in sorted(files):
        with contextlib.suppress(OSError):  # it has gone meanwhile
            content = read_data(path)
            found += [(name, str(path.relative_to(data))) for name, mark in marks.items() if mark in content]
    return found


def read_data(path: Path) -> bytes:
    """Reads a file without its holes, which are most of what the dense store sets aside."""
    with path.open("rb") as file:
        pieces, end, size = [], 0, os.fstat(file.fileno()).st_size
        while end < size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # there is nothing but a hole
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            pieces.append(os.pread(file.fileno(), end - start, start))
    return b"".join(pieces)


async def fill(client: Client, data: Path, encoder: Path) -> dict[str, bytes]:
    """Fills two collections; returns what must not be found once the secret documents are deleted."""
    for name in (KEPT, DROPPED):
        await create(client, name, encoder)
        await upsert(client, name, make_secrets(name))
    secret = read_vectors(data)
    for name in (KEPT, DROPPED):
        await upsert(client, name, make_others(name))
        assert f"tells {MARKER} to nobody" in await suggest(client, name, "tells zan")
    assert len(secret) == 40
    marks = MARKS | {f"vector {n}": vector for n, vector in enumerate(sorted(secret))}
    assert {name for name, _ in find(data, marks)} >= marks.keys() - {"keyword in BM25"}
    return marks


async def suggest(client: Client, name: str, text: str) -> list[str]:
    request = search_pb.SuggestRequest(collection=name, text=text)
    answer = await client.search.Suggest(request, timeout=CALL_S)
    return [one.text for one in answer.suggestions]


async def delete(client: Client) -> None:
    ids = [document.id for document in make_secrets(KEPT)]
    request = documents_pb.BatchDeleteDocumentsRequest(
        collection=KEPT, ids=ids, wait=documents_pb.WRITE_VISIBILITY_SEARCHABLE
    )
    await client.documents.BatchDeleteDocuments(request, timeout=CALL_S)
    await client.collections.DeleteCollection(
        collections_pb.DeleteCollectionRequest(name=DROPPED), timeout=CALL_S
    )


async def check_kept(client: Client, data: Path) -> None:
    assert await suggest(client, KEPT, "tells zan") == []
    assert "document" in " ".join(await suggest(client, KEPT, "kept doc"))
    found = await client.consistency(KEPT)
    assert found.consistent
    assert [arm.documents for arm in found.arms] == [31, 31]
    assert len(read_vectors(data)) == 31  # that of the text which both collections held is among them


async def test_nothing_is_left_of_what_was_deleted_while_the_server_runs(
    tmp_path: Path, encoder: Path
) -> None:
    data = tmp_path / "data"
    async with serving(data, encoder, **SOON) as (_, client):
        marks = await fill(client, data, encoder)
        await delete(client)
        try:
            await until(lambda: not find(data, marks), GONE_S)
        except TimeoutError:
            assert find(data, marks) == []
        await check_kept(client, data)


async def test_a_deletion_that_a_kill_interrupts_is_completed_after_the_next_start(
    tmp_path: Path, encoder: Path
) -> None:
    data = tmp_path / "data"
    async with serving(data, encoder, **LATER) as (server, client):
        marks = await fill(client, data, encoder)
        await delete(client)
        children = server.processes("store_worker")
        await server.kill()
        await until(lambda: not any(child.is_running() for child in children))
    assert find(data, marks)
    async with serving(data, encoder, **SOON) as (_, client):
        await until(lambda: not find(data, marks), GONE_S)
        await check_kept(client, data)
