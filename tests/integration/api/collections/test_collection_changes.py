"""Changes of collections whose caller gives up, or that come in the middle of writes."""

from collections.abc import Callable

import grpc
from tests.integration.api.helpers.served import CALL_S, Api

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2 as docs

HASTE_S = (0.001, 0.005, 0.01, 0.02, 0.05)


def create_unless_there(api: Api, name: str) -> None:
    """Create a collection, or find that it is there, once what was going on with its name is over.

    Changes of one name happen one after the other; those of different names do not wait for each other.
    """
    request = pb.CreateCollectionRequest(collection=pb.Collection(name=name, encoder="none"))
    try:
        api.collections.CreateCollection(request, timeout=CALL_S)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        api.collections.GetCollection(pb.GetCollectionRequest(name=name), timeout=CALL_S)


def test_a_create_whose_caller_gives_up_happens_whole_or_not_at_all(
    api: Api, new_name: Callable[[], str]
) -> None:
    for haste_s in HASTE_S:
        name = new_name()
        request = pb.CreateCollectionRequest(collection=pb.Collection(name=name, encoder="none"))
        try:
            api.collections.CreateCollection(request, timeout=haste_s)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        create_unless_there(api, name)
        api.upsert(name, {"a": {"text": "word"}})


def test_a_delete_whose_caller_gives_up_leaves_the_name_free_or_the_collection_whole(
    api: Api, new_name: Callable[[], str]
) -> None:
    for haste_s in HASTE_S:
        name = new_name()
        request = pb.CreateCollectionRequest(collection=pb.Collection(name=name, encoder="none"))
        api.collections.CreateCollection(request, timeout=CALL_S)
        try:
            api.collections.DeleteCollection(pb.DeleteCollectionRequest(name=name), timeout=haste_s)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        create_unless_there(api, name)
        api.upsert(name, {"a": {"text": "word"}})
        assert [hit.document.id for hit in api.search(name, "word").hits] == ["a"]


def test_deletes_that_an_arm_has_not_seen_yet_are_no_difference(api: Api, lexical: str) -> None:
    documents = {f"d{n}": {"text": "word"} for n in range(200)}
    api.upsert(lexical, documents)
    for id in documents:
        request = docs.BatchDeleteDocumentsRequest(collection=lexical, ids=[id])
        api.documents.BatchDeleteDocuments(request, timeout=CALL_S)
        if int(id[1:]) % 20 == 0:
            found = api.collections.CheckConsistency(pb.CheckConsistencyRequest(name=lexical), timeout=CALL_S)
            assert found.consistent
