"""Page tokens: each is read by the method and the request that it was made for, and by no other."""

import base64
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.v1.document_service_pb2 import ListDocumentsRequest
from quarry.v1.model_service_pb2 import ListModelsRequest
from quarry.v1.search_service_pb2 import SearchRequest
from quarry_server.common.page_tokens import (
    ALL,
    DOCUMENTS,
    LOOP_REPORTS,
    MAX_TOKEN_BYTES,
    MINING_SETS,
    MODELS,
    SEARCH,
    PageTokens,
)

REQUEST = ListDocumentsRequest(collection="a", page_size=3)
CHARACTERS = st.characters(exclude_categories=["Cs"])


def forged(*parts: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


def refusal(tokens: PageTokens[Any], request: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        tokens.parse(request)
    assert caught.value.field == "page_token"
    return caught.value.problem


@given(id=st.text(CHARACTERS, min_size=1), size=st.integers(0, 2**31 - 1))
def test_a_place_comes_back_as_it_was_whatever_the_page_size(id: str, size: int) -> None:
    token = DOCUMENTS.encode((id,), REQUEST)
    again = ListDocumentsRequest(collection="a", page_size=size, page_token=token)
    assert DOCUMENTS.parse(again) == (id,)


@given(key=st.text(CHARACTERS), offset=st.integers(0, 2**63 - 1), docno=st.integers(0, 2**63 - 1))
def test_a_place_of_several_parts_comes_back(key: str, offset: int, docno: int) -> None:
    request = SearchRequest(collection="a", query="b")
    request.page_token = SEARCH.encode((key, offset, docno), request)
    assert SEARCH.parse(request) == (key, offset, docno)


def test_the_longest_id_fits_into_a_token() -> None:
    id = "\x01" * 512
    assert len(DOCUMENTS.encode((id,), REQUEST)) <= MAX_TOKEN_BYTES


def test_no_token_is_the_first_page() -> None:
    assert [tokens.parse(tokens.request()) for tokens in ALL] == [None] * len(ALL)


@given(
    token=st.text(CHARACTERS, min_size=1) | st.binary(min_size=1).map(lambda b: base64.b64encode(b).decode())
)
@example(forged())
@example(forged(None))
@example(forged(DOCUMENTS.method))
@example(forged(DOCUMENTS.method, "", 7))
@example(forged(DOCUMENTS.method, "", "a"))
@example(forged(DOCUMENTS.method, "", "a", "b"))
@example(forged("a", "0123456789abcdef"))
@example(base64.urlsafe_b64encode(b'{"a": 1}').decode())
@example(base64.urlsafe_b64encode(b"[" * 5_000).decode())
@example(DOCUMENTS.encode(("x",), REQUEST) + "\n")
@example(DOCUMENTS.encode(("x",), REQUEST)[:-4])
@example("A" * 10_000_000)
def test_nothing_else_is_a_token(token: str) -> None:
    refusal(DOCUMENTS, ListDocumentsRequest(collection="a", page_token=token))


@pytest.mark.parametrize("place", [(-1, 0, 0), (2**63, 0, 0), (True, 0, 0), (1.0, 0, 0), ("1", 0, 0), (1, 0)])
def test_a_forged_place_of_a_wrong_kind_is_refused(place: tuple[Any, ...]) -> None:
    token = MODELS.encode(place, ListModelsRequest())  # type: ignore[arg-type]  # its digest is right
    assert "not a token" in refusal(MODELS, ListModelsRequest(page_token=token))


@given(id=st.text("abc", min_size=1), place=st.integers(0, 200), other=st.sampled_from("AQgwz059-_=\n"))
def test_a_changed_token_is_refused(id: str, place: int, other: str) -> None:
    token = DOCUMENTS.encode((id,), REQUEST)
    place %= len(token)
    changed = token[:place] + other + token[place + 1 :]
    if changed != token:
        refusal(DOCUMENTS, ListDocumentsRequest(collection="a", page_token=changed))


def test_a_token_of_another_request_or_method_is_refused_and_the_answer_says_which() -> None:
    token = DOCUMENTS.encode(("x",), ListDocumentsRequest(collection="b"))
    assert "other arguments" in refusal(DOCUMENTS, ListDocumentsRequest(collection="a", page_token=token))
    token = MINING_SETS.encode((1, "x"), MINING_SETS.request())
    assert "another method" in refusal(LOOP_REPORTS, LOOP_REPORTS.request(page_token=token))


@pytest.mark.parametrize("tokens", ALL, ids=lambda tokens: tokens.method)
def test_tokens_of_the_last_version_are_refused(tokens: PageTokens[Any]) -> None:
    """They had no method: ``[place, digest]``, and ``[key, offset, digest]`` for a search."""
    for old in (forged("x", "0123456789abcdef"), forged("key", 5, "0123456789abcdef").rstrip("=")):
        refusal(tokens, tokens.request(page_token=old))
