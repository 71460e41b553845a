import base64
from random import Random

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError, PageExpiredError
from quarry.pages import PageStore, PageToken


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


def test_the_oldest_lists_go_when_there_are_too_many_entries() -> None:
    store: PageStore[str] = PageStore(10.0, 10, Clock())
    for key in "abc":
        store.keep(key, 4, key)
    with pytest.raises(PageExpiredError):
        store.get("a")
    assert [store.get(key) for key in "bc"] == ["b", "c"]
    store.keep("d", 11, "d")
    for key in "bcd":
        with pytest.raises(PageExpiredError):
            store.get(key)


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


@given(key=st.text(), offset=st.integers(0, 2**31), fingerprint=st.text())
def test_tokens_come_back_as_they_were(key: str, offset: int, fingerprint: str) -> None:
    token = PageToken(key, offset, fingerprint)
    assert PageToken.decode(token.encode()) == token


@given(token=st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
@example(base64.urlsafe_b64encode(orjson.dumps(["a", -1, "b"])).decode())
@example(base64.urlsafe_b64encode(orjson.dumps(["a", True, "b"])).decode())
@example(base64.urlsafe_b64encode(orjson.dumps(["a", 1.0, "b"])).decode())
@example(base64.urlsafe_b64encode(orjson.dumps({"a": 1, "b": 2, "c": 3})).decode())
@example(base64.urlsafe_b64encode(b"[" * 10_000).decode())
@example(PageToken("a", 1, "b").encode() + "=")
@example(" " + PageToken("a", 1, "b").encode())
@example("")
@example("\ud800")
def test_nothing_else_is_a_token(token: str) -> None:
    try:
        decoded = PageToken.decode(token)
    except InvalidArgumentError as error:
        assert error.field == "page_token"
    else:
        assert decoded.encode() == token
