"""UpdateDocumentsByFilter: what it reads, what it changes, and what it refuses."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, checked_status, document, refused

from quarry.schema import MAX_DOCUMENT_BYTES
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import document_service_pb2 as pb

TEXT, KEYWORD = collections_pb.SCHEMA_FIELD_TYPE_TEXT, collections_pb.SCHEMA_FIELD_TYPE_KEYWORD
INTEGER = collections_pb.SCHEMA_FIELD_TYPE_INTEGER
SCHEMA = collections_pb.Schema(
    fields=[
        {"name": "text", "type": TEXT},
        {"name": "brand", "type": KEYWORD},
        {"name": "price", "type": INTEGER},
    ]
)
A: Any = {"equal_to": {"field": "brand", "value": {"string_value": "a"}}}


@pytest.fixture
def shop(api: Api, new_name: Callable[[], str]) -> str:
    name = api.create(new_name(), encoder="none", schema=SCHEMA).name
    things = {f"d{n}": {"text": "thing", "brand": "ab"[n % 2], "price": n} for n in range(6)}
    api.upsert(name, things)
    return name


def request_of(
    shop: str, filter: Any = A, unset: Any = (), **fields: Any
) -> pb.UpdateDocumentsByFilterRequest:
    return pb.UpdateDocumentsByFilterRequest(
        collection=shop, filter=filter, fields=document("", **fields).fields, removed_fields=unset
    )


def update(api: Api, request: pb.UpdateDocumentsByFilterRequest) -> pb.UpdateDocumentsByFilterResponse:
    return api.documents.UpdateDocumentsByFilter(request, timeout=CALL_S)


def prices(api: Api, shop: str) -> dict[str, int | None]:
    request = pb.ListDocumentsRequest(collection=shop)
    listed = api.documents.ListDocuments(request, timeout=CALL_S).documents
    return {one.id: one.fields["price"].integer_value if "price" in one.fields else None for one in listed}


def test_fields_are_set_and_taken_away_where_the_filter_holds(api: Api, shop: str) -> None:
    request = request_of(shop, brand="c", unset=["price"])
    request.wait = pb.WRITE_VISIBILITY_SEARCHABLE
    done = update(api, request)
    assert (done.matched_count, done.updated_count, done.refused_count) == (3, 3, 0)
    assert done.result.reached == pb.WRITE_VISIBILITY_SEARCHABLE
    assert prices(api, shop) == {"d0": None, "d1": 1, "d2": None, "d3": 3, "d4": None, "d5": 5}
    brand_c: Any = {"equal_to": {"field": "brand", "value": {"string_value": "c"}}}
    assert api.search(shop, filter=brand_c).total.count == 3
    assert update(api, request).matched_count == 0


def test_a_repeated_request_changes_nothing_more(api: Api, shop: str) -> None:
    request = request_of(shop, price=9)
    request.request_id = f"u-{shop}"
    first = update(api, request)
    api.upsert(shop, {"d9": {"text": "thing", "brand": "a", "price": 1}})
    assert update(api, request) == first
    assert prices(api, shop)["d9"] == 1
    request.removed_fields.append("text")
    assert refused(api.documents.UpdateDocumentsByFilter, request).field == "request_id"


def test_a_document_that_would_grow_too_large_stays(api: Api, shop: str) -> None:
    half = "x" * (MAX_DOCUMENT_BYTES // 2)
    schema = collections_pb.Schema(fields=[*SCHEMA.fields, {"name": "more", "type": TEXT}])
    large = api.create(f"{shop}-large", encoder="none", schema=schema).name
    api.upsert(large, {"big": {"text": half, "brand": "a"}, "small": {"text": "x", "brand": "a"}})
    done = update(api, request_of(large, more=half))
    assert (done.matched_count, done.updated_count, done.refused_count) == (2, 1, 1)
    (refusal,) = done.refusals
    assert refusal.id == "big"
    wrong = checked_status(refusal.status, grpc.StatusCode.INVALID_ARGUMENT)
    assert wrong.reason == "VALUE_OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "fields"),
        ({"price": "soon"}, "fields.price"),
        ({"colour": "red"}, "fields.colour"),
        ({"unset": ["colour"]}, "removed_fields[0]"),
        ({"unset": ["text", "a b"]}, "removed_fields[1]"),
        ({"price": 1, "unset": ["price"]}, "removed_fields[0]"),
        ({"unset": ["price"] * 300}, "removed_fields"),
        ({"price": 1, "filter": {}}, "filter"),
        ({"price": 1, "filter": {"exists": {"field": "text"}}}, "filter.exists.field"),
    ],
)
def test_a_wrong_change_is_named(api: Api, shop: str, values: dict[str, Any], field: str) -> None:
    wrong = refused(api.documents.UpdateDocumentsByFilter, request_of(shop, **values))
    assert (wrong.code, wrong.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert prices(api, shop) == {f"d{n}": n for n in range(6)}
