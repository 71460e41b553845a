"""Makes a collection, writes two documents, and searches it with a filter.

python examples/client.py [HOST:PORT]    with a server running: quarry serve --data quarry-data
"""

import os
import sys

from quarry.client import Client, QuarryCallError
from quarry.v1.collection_service_pb2 import (
    SCHEMA_FIELD_TYPE_INTEGER,
    SCHEMA_FIELD_TYPE_TEXT,
    Collection,
    CreateCollectionRequest,
    DeleteCollectionRequest,
    Schema,
    SchemaField,
)
from quarry.v1.document_service_pb2 import WRITE_VISIBILITY_SEARCHABLE
from quarry.v1.search_service_pb2 import SearchRequest
from quarry.v1.types_pb2 import Document, FieldValue, Filter, RangeFilter

NAME = "example"
FIELDS = [
    SchemaField(name="title", type=SCHEMA_FIELD_TYPE_TEXT),
    SchemaField(name="year", type=SCHEMA_FIELD_TYPE_INTEGER),
]
BOOKS = {"lem-1961": ("Solaris", 1961), "clarke-1973": ("Rendezvous with Rama", 1973)}


def make_document(id: str, title: str, year: int) -> Document:
    document = Document(id=id)
    document.fields["title"].string_value = title
    document.fields["year"].integer_value = year
    return document


def main() -> None:
    server = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QUARRY_SERVER", "127.0.0.1:50051")
    with Client(server, timeout_s=5) as quarry:
        collection = Collection(name=NAME, schema=Schema(fields=FIELDS))
        try:  # the first collection of a server makes it export its encoder: that takes a while
            quarry.collections.CreateCollection(CreateCollectionRequest(collection=collection), timeout=300)
        except QuarryCallError as error:
            sys.exit(f"{server}: {error}")
        try:
            write_and_search(quarry)
        finally:
            quarry.collections.DeleteCollection(DeleteCollectionRequest(name=NAME), timeout=30)


def write_and_search(quarry: Client) -> None:
    documents = (make_document(id, title, year) for id, (title, year) in BOOKS.items())
    quarry.upsert(NAME, documents, wait=WRITE_VISIBILITY_SEARCHABLE)
    recent = Filter(range=RangeFilter(field="year", gte=FieldValue(integer_value=1970)))
    request = SearchRequest(collection=NAME, query="a voyage through space", filter=recent)
    for hit in quarry.search.Search(request).hits:
        print(hit.rank, f"{hit.score:.3f}", hit.document.fields["title"].string_value)


if __name__ == "__main__":
    main()
