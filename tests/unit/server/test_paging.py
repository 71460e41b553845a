import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.v1.types_pb2 import Document
from quarry_server.common.paging import fitting, parse_page_size


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
