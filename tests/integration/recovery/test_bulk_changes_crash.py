"""SIGKILL while an alias is switched and while documents are changed by a filter: what was said is so."""

import asyncio
from pathlib import Path

import grpc
import pytest
from tests.integration.crash.server import CALL_S, Server, connected

from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import search_service_pb2, types_pb2

COLOURS = ("blue", "red")
DOCUMENTS = 10_000
ALL = types_pb2.Filter(all_of=types_pb2.FilterList())


@pytest.mark.timeout(300)
async def test_an_alias_names_what_was_acknowledged_or_asked_for_last(tmp_path: Path) -> None:
    data, encoder = tmp_path / "data", make_tiny_encoder(tmp_path / "encoder", seed=1)
    server = await Server.start(data, encoder)
    async with connected(server) as client:
        for colour in COLOURS:
            made = pb.CreateCollectionRequest(collection={"name": colour, "encoder": "none"})
            await client.collections.CreateCollection(made, timeout=CALL_S)
    for turn in range(3):
        acknowledged, asked, killing = "", "", None
        async with connected(server) as client:
            for number in range(10_000):
                asked = COLOURS[number % 2]
                request = pb.SetAliasRequest(name="shop", collection=asked)
                if number == 40 + turn:
                    killing = asyncio.create_task(server.kill())
                try:
                    await client.collections.SetAlias(request, timeout=CALL_S)
                except grpc.aio.AioRpcError:
                    break
                acknowledged = asked
        assert killing is not None
        await killing
        assert acknowledged
        server = await Server.start(data, encoder)
        async with connected(server) as client:
            assert (await client.read_collection("shop")).name in (acknowledged, asked)
            search = search_service_pb2.SearchRequest(collection="shop")
            await client.search.Search(search, timeout=CALL_S)
    await server.stop()


@pytest.mark.timeout(300)
async def test_a_change_by_filter_goes_on_after_a_kill_and_counts_all(tmp_path: Path) -> None:
    data, encoder = tmp_path / "data", make_tiny_encoder(tmp_path / "encoder", seed=1)
    server = await Server.start(data, encoder)
    async with connected(server) as client:
        made = pb.CreateCollectionRequest(collection={"name": "shop", "encoder": "none"})
        await client.collections.CreateCollection(made, timeout=CALL_S)
        text = types_pb2.FieldValue(string_value="thing")
        documents = [types_pb2.Document(id=f"d{n:05}", fields={"text": text}) for n in range(DOCUMENTS)]
        upsert = documents_pb.BatchUpsertDocumentsRequest(collection="shop", documents=documents)
        await client.documents.BatchUpsertDocuments(upsert, timeout=CALL_S)
    request = documents_pb.UpdateDocumentsByFilterRequest(
        collection="shop",
        filter=ALL,
        fields={"text": types_pb2.FieldValue(string_value="changed")},
        request_id="one",
    )
    async with connected(server) as client:

        async def kill_when_some_are_changed() -> None:
            get = documents_pb.GetDocumentRequest(collection="shop", id="d00000")
            while True:
                found = await client.documents.GetDocument(get, timeout=CALL_S)
                if found.document.fields["text"].string_value == "changed":
                    await server.kill()
                    return

        killing = asyncio.create_task(kill_when_some_are_changed())
        with pytest.raises(grpc.aio.AioRpcError):
            await client.documents.UpdateDocumentsByFilter(request, timeout=CALL_S)
        await killing
    server = await Server.start(data, encoder)
    async with connected(server) as client:
        last = (await client.read_collection("shop")).status.last_sequence
        assert DOCUMENTS < last < 2 * DOCUMENTS, "some were changed before the kill, and not all"
        done = await client.documents.UpdateDocumentsByFilter(request, timeout=CALL_S)
        assert (done.matched_count, done.updated_count, done.refused_count) == (DOCUMENTS, DOCUMENTS, 0)
        last = (await client.read_collection("shop")).status.last_sequence
        assert last == 2 * DOCUMENTS, "none was written twice"
        assert await client.documents.UpdateDocumentsByFilter(request, timeout=CALL_S) == done
        check = pb.CheckConsistencyRequest(name="shop")
        assert (await client.collections.CheckConsistency(check, timeout=CALL_S)).consistent
    await server.stop()
