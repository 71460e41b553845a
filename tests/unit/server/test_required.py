from collections.abc import Iterator

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from quarry.errors import InvalidArgumentError
from quarry.v1 import (
    collection_service_pb2,
    document_service_pb2,
    feedback_service_pb2,
    mining_service_pb2,
    model_service_pb2,
    search_service_pb2,
    training_service_pb2,
)
from quarry_server.transport.required import check_required

FILES = (
    collection_service_pb2,
    document_service_pb2,
    feedback_service_pb2,
    mining_service_pb2,
    model_service_pb2,
    search_service_pb2,
    training_service_pb2,
)
FIRST = ("config", "options")
"""Of a stream: the field of its first message, which says what the others are about."""
ONLY_MESSAGES = {"CreateCollection", "UpdateCollection"}


def empty_requests() -> Iterator[tuple[str, str, Message]]:
    """Each method that works on one collection, the field that names it, and a request without the name."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if (field := _collection_field(method)) is not None:
                    request = message_factory.GetMessageClass(method.input_type)()
                    if field.startswith(FIRST):
                        getattr(request, field.split(".")[0]).SetInParent()
                    yield method.name, field, request


def _collection_field(method: MethodDescriptor) -> str | None:
    fields = method.input_type.fields_by_name
    if method.name.startswith("List"):
        return None  # of all collections, or by a cursor alone, but for documents
    if method.name in ONLY_MESSAGES:
        return "collection.name"
    for first in FIRST:
        if first in fields and "collection" in fields[first].message_type.fields_by_name:
            return f"{first}.collection"
    if "collection" in fields:
        return "collection"
    return "name" if method.containing_service.name == "CollectionService" else None


@pytest.mark.parametrize(
    ("method", "field", "request_"),
    [pytest.param(*one, id=one[0]) for one in empty_requests()],
)
def test_a_request_without_its_collection_is_refused(method: str, field: str, request_: Message) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_required(request_)
    assert caught.value.field == field


def test_documents_are_listed_of_a_collection() -> None:
    with pytest.raises(InvalidArgumentError, match="collection"):
        check_required(document_service_pb2.ListDocumentsRequest())


@pytest.mark.parametrize(
    "request_",
    [
        model_service_pb2.ListModelsRequest(),
        model_service_pb2.ListRankingsRequest(),
        mining_service_pb2.ListMiningSetsRequest(),
        training_service_pb2.ListLoopReportsRequest(),
        collection_service_pb2.ListCollectionsRequest(),
        document_service_pb2.UpsertDocumentsRequest(batch={}),
        search_service_pb2.SearchRequest(collection="faq", filter={"all_of": {}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_be_empty_is_not_asked_for(request_: Message) -> None:
    check_required(request_)
