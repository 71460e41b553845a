"""Scores that were given before are given again, and never another model's."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quarry.models.base import ModelInfo, PairScore
from quarry.models.blend import RERANKER_ALONE
from quarry.models.caches.score_cache import ENTRY_BYTES, ScoreCache
from quarry.models.cross_encoder import TransformerCrossEncoder
from quarry.models.served_reranker import ServedReranker

PAIRS = [(query, f"{passage} of the bado") for query in ("rata", "neli") for passage in ("a", "b", "c")]
TEXTS = st.text(alphabet="a:1\x00é\ud800", max_size=4)
KEYS = st.tuples(st.sampled_from(["a", "a1", "b"]), TEXTS, TEXTS)


class Counting:
    """A cross-encoder that counts what it scores; a score is a number of its own."""

    def __init__(self, name: str = "m") -> None:
        self.info = ModelInfo(name, f"fingerprint of {name}", 64)
        self.scored: list[tuple[str, str]] = []

    def score(self, pairs: list[tuple[str, str]]) -> list[PairScore]:
        self.scored += pairs
        return [PairScore(float(len(self.scored)), False) for _ in pairs]


async def test_a_pair_is_run_once_and_hits_are_counted() -> None:
    model, cache = Counting(), ScoreCache(10_000)
    served = ServedReranker(model, RERANKER_ALONE, cache=cache)
    first = await served.score(PAIRS[:4])
    again = await served.score(PAIRS[2:] + PAIRS[:1])
    assert again[:2] == first[2:]
    assert again[-1] == first[0]
    assert sorted(model.scored) == sorted(PAIRS)
    assert (cache.asked, cache.hits) == (9, 3)
    served.close()


async def test_scores_are_the_same_with_and_without(cross_encoder: TransformerCrossEncoder) -> None:
    cached = ServedReranker(cross_encoder, RERANKER_ALONE, cache=ScoreCache(10_000))
    plain = ServedReranker(cross_encoder, RERANKER_ALONE)
    expected = await plain.score(PAIRS)
    assert await cached.score(PAIRS) == expected
    assert await cached.score(PAIRS) == expected
    mixed = await cached.score([PAIRS[0], ("new", "one"), PAIRS[3]])
    assert [mixed[0], mixed[2]] == [expected[0], expected[3]]
    (alone,) = await plain.score([("new", "one")])
    np.testing.assert_allclose(mixed[1].score, alone.score, atol=1e-4)
    for served in (cached, plain):
        served.close()


async def test_two_models_never_share_a_score() -> None:
    cache = ScoreCache(10_000)
    models = [Counting("a"), Counting("b")]
    for model in models:
        served = ServedReranker(model, RERANKER_ALONE, cache=cache)
        await served.score(PAIRS)
        served.close()
    assert all(sorted(model.scored) == sorted(PAIRS) for model in models)
    assert cache.hits == 0


async def test_what_is_known_costs_no_time() -> None:
    served = ServedReranker(Counting(), RERANKER_ALONE, cache=ScoreCache(10_000))
    assert await served.score_in_time(PAIRS, 1e-9) == []
    await served.score([PAIRS[0], PAIRS[1], PAIRS[3]])
    assert len(await served.score_in_time(PAIRS, 1e-9)) == 2
    every = await served.score_in_time(PAIRS, 1_000)
    assert len(every) == len(PAIRS)
    assert await served.score_in_time(PAIRS, 1e-9) == every
    served.close()


async def test_a_search_looks_each_pair_up_once() -> None:
    cache = ScoreCache(10_000)
    served = ServedReranker(Counting(), RERANKER_ALONE, cache=cache)
    for _ in range(2):
        await served.score_in_time(PAIRS, 1_000)
    assert (cache.asked, cache.hits) == (2 * len(PAIRS), len(PAIRS))
    served.close()


async def test_a_size_of_zero_keeps_nothing() -> None:
    model, cache = Counting(), ScoreCache(0)
    served = ServedReranker(model, RERANKER_ALONE, cache=cache)
    for _ in range(2):
        await served.score(PAIRS)
    assert len(model.scored) == 2 * len(PAIRS)
    assert (len(cache), cache.asked) == (0, 0)
    served.close()


def test_those_used_longest_ago_go_first() -> None:
    cache = ScoreCache(3 * ENTRY_BYTES)
    cache.put("m", PAIRS[:3], [PairScore(float(n), False) for n in range(3)])
    cache.get("m", PAIRS[:1])
    cache.put("m", PAIRS[3:4], [PairScore(3.0, True)])
    assert [s and s.score for s in cache.get("m", PAIRS[:4])] == [0.0, None, 2.0, 3.0]


def test_an_entry_takes_no_more_memory_than_is_counted() -> None:
    size = 20_000
    tracemalloc.start()
    cache = ScoreCache(size * ENTRY_BYTES)
    cache.put("m", [(str(n), "passage") for n in range(size)], [PairScore(n / 7, False) for n in range(size)])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cache) == size
    assert used < size * ENTRY_BYTES


@given(first=KEYS, second=KEYS)
def test_no_two_pairs_are_taken_for_each_other(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    cache = ScoreCache(10_000)
    cache.put(first[0], [first[1:]], [PairScore(1.0, False)])
    assert (cache.get(second[0], [second[1:]]) != [None]) == (first == second)


def test_threads_share_it() -> None:
    cache = ScoreCache(50 * ENTRY_BYTES)

    def work(thread: int) -> None:
        for n in range(300):
            pair = [(f"q{n % 60}", "p")]
            found = cache.get("m", pair)[0]
            assert found is None or found.score == n % 60
            cache.put("m", pair, [PairScore(float(n % 60), False)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert len(cache) <= 50
