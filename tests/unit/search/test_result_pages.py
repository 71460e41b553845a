from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import PageExpiredError
from quarry.search.result_pages import PageStore


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_list_is_kept_for_its_lifetime_and_no_longer() -> None:
    clock = Clock()
    store: PageStore[str] = PageStore(10.0, 1_000, clock)
    store.keep("a", 1, "list")
    clock.now_s += 9.99
    assert store.get("a") == "list"
    clock.now_s += 0.01
    with pytest.raises(PageExpiredError):
        store.get("a")


def test_the_oldest_lists_go_when_there_are_too_many_and_one_that_never_fits_moves_none() -> None:
    store: PageStore[str] = PageStore(10.0, 10, Clock())
    for key in "abc":
        store.keep(key, 4, key)
    with pytest.raises(PageExpiredError):
        store.get("a")
    assert [store.get(key) for key in "bc"] == ["b", "c"]
    store.keep("d", 11, "d")
    with pytest.raises(PageExpiredError):
        store.get("d")
    assert [store.get(key) for key in "bc"] == ["b", "c"]


def test_expired_lists_make_room() -> None:
    clock = Clock()
    store: PageStore[str] = PageStore(10.0, 10, clock)
    store.keep("a", 10, "a")
    clock.now_s += 11
    store.keep("b", 5, "b")
    store.keep("c", 5, "c")
    assert [store.get(key) for key in "bc"] == ["b", "c"]


@given(random=st.randoms(), most=st.integers(1, 30))
def test_no_more_is_kept_than_is_allowed_and_the_newest_always_if_it_fits(random: Random, most: int) -> None:
    store: PageStore[int] = PageStore(10.0, most, Clock())
    sizes: dict[str, int] = {}
    for _ in range(40):
        key, size = random.choice("abcdef"), random.randint(0, 12)
        sizes[key] = size
        store.keep(key, size, size)
        kept = 0
        for known, entries in sizes.items():
            try:
                assert store.get(known) == entries
                kept += entries
            except PageExpiredError:
                assert known != key or size > most
        assert kept <= most
