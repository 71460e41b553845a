"""Every method that has pages, found by its descriptor, refuses what is no token of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from tests.integration.api.helpers.hostile import Method, methods
from tests.integration.api.helpers.models import Models, tiny_reranker
from tests.integration.api.helpers.served import CALL_S, Api, refused

from quarry.v1 import collection_service_pb2
from quarry_server.common.page_tokens import ALL, LOOP_REPORTS, MINING_SETS, RANKINGS

FIELD = "page_token"
OLD = {
    "ListModels": "WyIxLzIvMyIsIjAxMjM0NTY3ODlhYmNkZWYiXQ==",
    "Search": "WyIwZjBlMGQiLDUsIjAxMjM0NTY3ODlhYmNkZWYiXQ",
}
"""As the version before wrote them: ``["1/2/3", digest]`` and ``["0f0e0d", 5, digest]``."""


def paged() -> list[Method]:
    return [m for m in methods("", "") if FIELD in m.descriptor.input_type.fields_by_name]


def call(api: Api, method: Method) -> Any:
    request = message_factory.GetMessageClass(method.descriptor.input_type)
    return api.channel.unary_unary(method.path, request.SerializeToString, method.answer)


def request_of(method: Method, **fields: Any) -> Any:
    known = method.descriptor.input_type.fields_by_name
    kept = {name: value for name, value in fields.items() if name in known}
    return message_factory.GetMessageClass(method.descriptor.input_type)(**kept)


@pytest.fixture(scope="module")
def tokens(api: Api, corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A token of each method: what the server gave, where it takes no job to have two entries."""
    api.create("another", encoder="none")
    models, folder = Models(api), tiny_reranker(tmp_path_factory.mktemp("model"), seed=5)
    for _ in range(2):
        models.imported(corpus, folder)
        repair = collection_service_pb2.RepairCollectionRequest(name="another")
        api.collections.RepairCollection(repair, timeout=CALL_S)
    for name in ("first", "second"):
        alias = collection_service_pb2.SetAliasRequest(collection="another", name=name)
        api.collections.SetAlias(alias, timeout=CALL_S)
    made = {
        "ListMiningSets": MINING_SETS.encode((1, "a"), MINING_SETS.request()),
        "ListRankings": RANKINGS.encode((1, 1, 1), RANKINGS.request()),
        "ListLoopReports": LOOP_REPORTS.encode((1, "a"), LOOP_REPORTS.request()),
    }
    for method in paged():
        if method.descriptor.name not in made:
            with_collection = method.descriptor.name in ("ListDocuments", "Search")
            request = request_of(method, page_size=1, **({"collection": corpus} if with_collection else {}))
            made[method.descriptor.name] = call(api, method)(request, timeout=CALL_S).next_page_token
    assert all(made.values()), made
    return made


def test_every_method_with_pages_has_tokens_of_its_own() -> None:
    asked = {method.descriptor.input_type.full_name for method in paged()}
    assert asked == {tokens.request.DESCRIPTOR.full_name for tokens in ALL}
    assert len(asked) == len(ALL) == 9


@pytest.mark.parametrize("method", paged(), ids=str)
def test_a_token_of_another_method_is_an_invalid_argument(
    api: Api, corpus: str, tokens: Mapping[str, str], method: Method
) -> None:
    others = {name: token for name, token in tokens.items() if name != method.descriptor.name}
    for token in others.values():
        for collection in ("", corpus):
            if method.descriptor.name in ("ListDocuments", "Search") and not collection:
                continue  # these ask for the collection first
            failed = refused(call(api, method), request_of(method, collection=collection, page_token=token))
            assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, FIELD)
            assert token not in failed.message


CHANGES: Mapping[str, Callable[[str], str]] = {
    "truncated": lambda token: token[: len(token) // 2],
    "shortened by one": lambda token: token[:-1],
    "doubled": lambda token: token * 2,
    "garbage": lambda _: "\u202e\x00{]",
    "oversized": lambda token: token * 1_000,
    "empty list": lambda _: "W10=",
}


@pytest.mark.parametrize("method", paged(), ids=str)
def test_what_is_no_token_is_an_invalid_argument(
    api: Api, corpus: str, tokens: Mapping[str, str], method: Method
) -> None:
    own = tokens[method.descriptor.name]
    for token in [change(own) for change in CHANGES.values()] + list(OLD.values()):
        failed = refused(call(api, method), request_of(method, collection=corpus, page_token=token))
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, FIELD)
        assert len(failed.message) < 200


@pytest.mark.parametrize("method", paged(), ids=str)
def test_a_token_goes_on_for_its_own_request_and_for_no_other(
    api: Api, corpus: str, tokens: Mapping[str, str], method: Method
) -> None:
    own = tokens[method.descriptor.name]
    with_collection = method.descriptor.name in ("ListDocuments", "Search")
    request = request_of(method, page_token=own, **({"collection": corpus} if with_collection else {}))
    call(api, method)(request, timeout=CALL_S)
    if "collection" in method.descriptor.input_type.fields_by_name:
        request.collection = "another"
        failed = refused(call(api, method), request)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, FIELD)
