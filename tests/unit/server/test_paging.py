import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.v1 import mining_service_pb2 as pb
from quarry.v1.types_pb2 import Document
from quarry_server.common.page_tokens import MINING_SETS
from quarry_server.common.paging import ListPage, parse_page_size, take_fitting


@pytest.mark.parametrize(("asked", "size"), [(0, 10), (1, 1), (50, 50), (51, 50), (2**31 - 1, 50)])
def test_page_sizes_are_cut_to_the_largest(asked: int, size: int) -> None:
    assert parse_page_size(asked, 10, 50) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="page_size"):
        parse_page_size(-1, 10, 50)


@given(sizes=st.lists(st.integers(0, 120), max_size=6), most=st.integers(1, 200))
def test_a_page_holds_one_entry_or_what_can_be_sent(sizes: list[int], most: int) -> None:
    messages = [Document(id="x" * size) for size in sizes]
    page = take_fitting(iter(messages), most)
    assert page == messages[: len(page)]
    assert len(page) <= 1 or sum(m.ByteSize() for m in page) <= most
    if len(page) < len(messages):
        assert page
        assert sum(m.ByteSize() for m in messages[: len(page) + 1]) > most


@given(
    places=st.sets(st.tuples(st.integers(0, 3), st.text("ab", min_size=1, max_size=3)), max_size=12),
    size=st.integers(1, 5),
)
def test_pages_of_a_list_hold_every_entry_once_the_greatest_place_first(
    places: set[tuple[int, str]], size: int
) -> None:
    seen: list[str] = []
    request = pb.ListMiningSetsRequest(page_size=size)
    while True:
        page, request.page_token = ListPage(MINING_SETS, request).fill_newest(
            places, lambda place: place, lambda place: Document(id=f"{place[0]} {place[1]}")
        )
        assert 0 < len(page) <= size or not places
        seen += [message.id for message in page]
        if not request.page_token:
            break
    assert seen == [f"{time} {name}" for time, name in sorted(places, reverse=True)]
