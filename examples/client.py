"""Makes a collection, writes two documents, and searches it with a filter.

python examples/client.py [HOST:PORT]    with a server running: quarry serve --data quarry-data
"""

import os
import sys

import grpc

from quarry.v1 import (
    collection_service_pb2 as collections,
)
from quarry.v1 import (
    collection_service_pb2_grpc,
    document_service_pb2_grpc,
    search_service_pb2_grpc,
)
from quarry.v1 import (
    document_service_pb2 as documents,
)
from quarry.v1 import (
    search_service_pb2 as search,
)
from quarry.v1 import (
    types_pb2 as types,
)

NAME = "example"
FIELDS = [
    collections.SchemaField(name="title", type=collections.SCHEMA_FIELD_TYPE_TEXT),
    collections.SchemaField(name="year", type=collections.SCHEMA_FIELD_TYPE_INTEGER),
]
BOOKS = {"lem-1961": ("Solaris", 1961), "clarke-1973": ("Rendezvous with Rama", 1973)}


def document(id: str, title: str, year: int) -> types.Document:
    made = types.Document(id=id)
    made.fields["title"].string_value = title
    made.fields["year"].integer_value = year
    return made


def main() -> None:
    server = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QUARRY_SERVER", "127.0.0.1:50051")
    with grpc.insecure_channel(server) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=5)
        except grpc.FutureTimeoutError:
            sys.exit(f"no server answers at {server}: start one with `quarry serve --data quarry-data`")
        api = collection_service_pb2_grpc.CollectionServiceStub(channel)
        wanted = collections.Collection(name=NAME, schema=collections.Schema(fields=FIELDS))
        api.CreateCollection(collections.CreateCollectionRequest(collection=wanted), timeout=300)
        try:
            write_and_search(channel)
        finally:
            api.DeleteCollection(collections.DeleteCollectionRequest(name=NAME), timeout=30)


def write_and_search(channel: grpc.Channel) -> None:
    batch = documents.BatchUpsertDocumentsRequest(
        collection=NAME,
        documents=[document(id, title, year) for id, (title, year) in BOOKS.items()],
        wait=documents.WRITE_VISIBILITY_SEARCHABLE,
    )
    answer = document_service_pb2_grpc.DocumentServiceStub(channel).BatchUpsertDocuments(batch, timeout=60)
    for status in answer.statuses:
        if status.status.code:
            sys.exit(f"{status.id}: {status.status.message}")
    recent = types.RangeFilter(field="year", gte=types.FieldValue(integer_value=1970))
    request = search.SearchRequest(
        collection=NAME, query="a voyage through space", filter=types.Filter(range=recent)
    )
    for hit in search_service_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=5).hits:
        print(hit.rank, f"{hit.score:.3f}", hit.document.fields["title"].string_value)


if __name__ == "__main__":
    main()
