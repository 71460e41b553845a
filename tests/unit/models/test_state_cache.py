"""States are kept within a bound, the most useful ones, under what they were made of."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.models.caches.state_cache import ENTRY_BYTES, StateCache, make_state_key
from quarry.models.caches.state_forms import States

KEYS = [bytes([n]) * 16 for n in range(100)]
SIZE = 8 * 2 + ENTRY_BYTES
IDS = st.lists(st.integers(0, 3), max_size=4)


def states(value: float, tokens: int = 2) -> States:
    return np.full((tokens, 4), value, np.float16)


def test_what_was_put_is_found_and_counted() -> None:
    cache = StateCache(10 * SIZE)
    cache.put(KEYS[0], states(1.0))
    found = cache.get(KEYS[:2])
    assert found[0] is not None
    assert found[0].tolist() == states(1.0).tolist()
    assert found[1] is None
    assert (cache.asked, cache.hits, cache.kept_bytes, len(cache)) == (2, 1, SIZE, 1)


def test_those_used_longest_ago_go_first() -> None:
    cache = StateCache(3 * SIZE)
    for n in range(3):
        cache.put(KEYS[n], states(n))
    cache.get(KEYS[:1])
    cache.find_known(KEYS[1:2])  # asking is no use
    cache.put(KEYS[3], states(3))
    assert cache.find_known(KEYS) == {KEYS[0], KEYS[2], KEYS[3]}


def test_longer_states_push_out_as_many_as_they_need() -> None:
    cache = StateCache(4 * SIZE)
    for n in range(4):
        cache.put(KEYS[n], states(n))
    cache.put(KEYS[4], states(4, tokens=2 + SIZE // 8))
    assert cache.kept_bytes <= 4 * SIZE
    assert cache.find_known(KEYS) == {KEYS[2], KEYS[3], KEYS[4]}


def test_states_over_the_bound_are_not_kept_and_push_nothing_out() -> None:
    cache = StateCache(2 * SIZE)
    cache.put(KEYS[0], states(0))
    cache.put(KEYS[1], states(1, tokens=1_000))
    assert cache.find_known(KEYS) == {KEYS[0]}


def test_putting_states_again_counts_them_once() -> None:
    cache = StateCache(10 * SIZE)
    for _ in range(3):
        cache.put(KEYS[0], states(1))
    assert (cache.kept_bytes, len(cache)) == (SIZE, 1)


def test_a_size_of_zero_keeps_nothing() -> None:
    cache = StateCache(0)
    cache.put(KEYS[0], states(1))
    assert (cache.get(KEYS[:1]), cache.kept_bytes, len(cache)) == ([None], 0, 0)


@pytest.mark.parametrize("wrong", [np.zeros((2, 4), np.float32), states(1, tokens=9)[:2]])
def test_what_would_take_more_memory_than_is_counted_is_refused(wrong: States) -> None:
    with pytest.raises(ValueError, match="a form"):
        StateCache(10 * SIZE).put(KEYS[0], wrong)


def test_kept_states_cannot_be_changed() -> None:
    cache = StateCache(10 * SIZE)
    cache.put(KEYS[0], states(1))
    (found,) = cache.get(KEYS[:1])
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 2


def test_it_takes_no_more_memory_than_is_counted() -> None:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    cache = StateCache(2**22)
    for n in range(10_000):
        cache.put(n.to_bytes(16), states(1.0, tokens=1 + n % 30))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 2**22 - 2_000 < cache.kept_bytes <= 2**22
    assert after - before < cache.kept_bytes


@given(
    first=st.tuples(st.sampled_from(["a", "a1", ""]), st.sampled_from(["f16", "i8"]), IDS),
    second=st.tuples(st.sampled_from(["a", "a1", ""]), st.sampled_from(["f16", "i8"]), IDS),
)
def test_no_two_texts_or_models_are_taken_for_each_other(
    first: tuple[str, str, list[int]], second: tuple[str, str, list[int]]
) -> None:
    keys = [make_state_key(lower, form, np.array(ids, np.int64)) for lower, form, ids in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


def test_threads_share_it() -> None:
    cache = StateCache(30 * SIZE)

    def work(thread: int) -> None:
        for n in range(500):
            place = (n * (thread + 1)) % 60
            (found,) = cache.get(KEYS[place : place + 1])
            assert found is None or found[0, 0] == place
            cache.put(KEYS[place], states(place))
            assert cache.kept_bytes <= 30 * SIZE

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert cache.kept_bytes == len(cache) * SIZE
    assert cache.asked == 8 * 500
