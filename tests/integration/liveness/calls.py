"""Calls that tests of a part that hangs make: create a collection, write to it and search it."""

from typing import Any

from tests.integration.api.helpers.served import document
from tests.integration.crash.server import CALL_S, Client

from quarry.v1 import collection_service_pb2, document_service_pb2
from quarry.v1 import search_service_pb2 as pb


async def create(client: Client, name: str, **settings: Any) -> None:
    collection = collection_service_pb2.Collection(name=name, **settings)
    request = collection_service_pb2.CreateCollectionRequest(collection=collection)
    await client.collections.CreateCollection(request, timeout=CALL_S)


async def write(client: Client, name: str, texts: list[str], searchable: bool = True) -> None:
    visibility = (
        document_service_pb2.WRITE_VISIBILITY_SEARCHABLE
        if searchable
        else document_service_pb2.WRITE_VISIBILITY_LOGGED
    )
    request = document_service_pb2.BatchUpsertDocumentsRequest(
        collection=name,
        documents=[document(f"d{n}", text=text) for n, text in enumerate(texts)],
        wait=visibility,
    )
    answer = await client.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    assert answer.result.reached == visibility


async def search(client: Client, name: str, query: str, timeout_s: float) -> pb.SearchResponse:
    request = pb.SearchRequest(collection=name, query=query, return_fields=["title"])
    return await client.search.Search(request, timeout=timeout_s)
