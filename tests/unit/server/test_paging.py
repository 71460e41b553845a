import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.v1.document_service_pb2 import ListDocumentsRequest
from quarry.v1.types_pb2 import Document
from quarry_server.paging import encode_after, fitting, parse_after, parse_page_size

REQUEST = ListDocumentsRequest(collection="a", page_size=3)


@given(after=st.text(min_size=1).filter(lambda text: text.isprintable()), size=st.integers(0, 2**31 - 1))
def test_a_place_in_a_list_comes_back_as_it_was_whatever_the_page_size(after: str, size: int) -> None:
    token = encode_after(after, REQUEST)
    again = ListDocumentsRequest(collection="a", page_size=size, page_token=token)
    assert parse_after(token, again) == after


@given(token=st.text(min_size=1))
def test_nothing_else_is_a_token(token: str) -> None:
    with pytest.raises(InvalidArgumentError, match="page_token"):
        parse_after(token, REQUEST)


@given(after=st.text("abc", min_size=1), place=st.integers(0, 200), other=st.sampled_from("AQgwz059-_=\n"))
def test_a_changed_token_is_refused(after: str, place: int, other: str) -> None:
    token = encode_after(after, REQUEST)
    place %= len(token)
    changed = token[:place] + other + token[place + 1 :]
    if changed != token:
        with pytest.raises(InvalidArgumentError, match="page_token"):
            parse_after(changed, REQUEST)


def test_a_token_of_another_request_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="page_token"):
        parse_after(encode_after("x", ListDocumentsRequest(collection="b")), REQUEST)


def test_no_token_is_the_first_page() -> None:
    assert parse_after("", REQUEST) == ""


@pytest.mark.parametrize(("asked", "size"), [(0, 10), (1, 1), (50, 50), (51, 50), (2**31 - 1, 50)])
def test_page_sizes_are_cut_to_the_largest(asked: int, size: int) -> None:
    assert parse_page_size(asked, 10, 50) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="page_size"):
        parse_page_size(-1, 10, 50)


@given(sizes=st.lists(st.integers(0, 120), max_size=6), most=st.integers(1, 200))
def test_a_page_holds_one_entry_or_what_can_be_sent(sizes: list[int], most: int) -> None:
    messages = [Document(id="x" * size) for size in sizes]
    page = fitting(iter(messages), most)
    assert page == messages[: len(page)]
    assert len(page) <= 1 or sum(m.ByteSize() for m in page) <= most
    if len(page) < len(messages):
        assert page
        assert sum(m.ByteSize() for m in messages[: len(page) + 1]) > most
