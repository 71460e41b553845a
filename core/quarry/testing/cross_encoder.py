"""The contract of ``quarry.models.base.CrossEncoder``."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarry.models.base import CrossEncoder

TOLERANCE = 1e-4
"""By how much the score of a pair may differ from one call to another."""
TEXTS = st.text(alphabet="abc deo.,\x00é\ud800中", max_size=60)
SHORT_PAIRS = [
    *[("the bado", passage) for passage in ("cobe fidu nami", "mo " * 10, "", "a", "the bado")],
    *[(query, "lute of sapo to bine") for query in ("", "gira neli")],
]


def make_long_pairs(model: CrossEncoder) -> list[tuple[str, str]]:
    """Makes pairs of which ``model`` cannot read all: in the query, in the passage, and in both."""
    words = model.info.max_tokens + 26
    return [
        ("tari " * words, "lute of sapo to bine"),
        ("rata", "nolo " * words),
        ("sobi " * words, "de " * words),
    ]


def score_each(model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [found.score for found in model.score(pairs)]


class CrossEncoderContract:
    """The promises of every cross-encoder. Subclass it as ``Test...``, and write ``open_model``.

    A subclass that must release its model overrides the fixture ``model`` instead.
    """

    def open_model(self, folder: Path) -> CrossEncoder:
        """Loads the model; ``folder`` is empty and the test's own."""
        raise NotImplementedError

    @pytest.fixture
    def model(self, tmp_path: Path) -> CrossEncoder:
        return self.open_model(tmp_path)

    def test_each_pair_has_a_finite_score_of_its_own(self, model: CrossEncoder) -> None:
        pairs = SHORT_PAIRS + make_long_pairs(model)
        scores = score_each(model, pairs)
        assert len(scores) == len(pairs)
        assert all(map(math.isfinite, scores))
        assert len({round(score, 3) for score in scores}) > len(pairs) // 2

    def test_no_pairs_have_no_scores(self, model: CrossEncoder) -> None:
        assert model.score([]) == []

    def test_cut_texts_are_told(self, model: CrossEncoder) -> None:
        assert [found.truncated for found in model.score(SHORT_PAIRS)] == [False] * 7
        assert [found.truncated for found in model.score(make_long_pairs(model))] == [True] * 3

    def test_what_is_beyond_the_cut_is_not_read(self, model: CrossEncoder) -> None:
        passage = "nolo " * (3 * model.info.max_tokens + 8)
        long, longer = model.score([("rata", passage), ("rata", passage + "bado " * 50)])
        assert long.score == pytest.approx(longer.score, abs=TOLERANCE)
        assert long.truncated
        assert longer.truncated

    @given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
    @settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
    def test_a_score_depends_on_its_own_pair_alone(
        self, model: CrossEncoder, pairs: list[tuple[str, str]]
    ) -> None:
        alone = [model.score([pair])[0] for pair in pairs]
        for one, together in zip(alone, model.score(pairs), strict=True):
            assert together.score == pytest.approx(one.score, abs=TOLERANCE)
            assert together.truncated == one.truncated

    def test_the_order_of_pairs_does_not_matter(self, model: CrossEncoder) -> None:
        pairs = SHORT_PAIRS + make_long_pairs(model)
        order = Random(3).sample(range(len(pairs)), len(pairs))
        expected = score_each(model, pairs)
        for place, score in zip(order, score_each(model, [pairs[place] for place in order]), strict=True):
            assert score == pytest.approx(expected[place], abs=TOLERANCE)

    def test_threads_get_the_same_scores(self, model: CrossEncoder) -> None:
        pairs = SHORT_PAIRS + make_long_pairs(model)
        expected = score_each(model, pairs)

        def work(seed: int) -> None:
            for _ in range(5):
                some = Random(seed).choices(range(len(pairs)), k=6)
                scores = score_each(model, [pairs[place] for place in some])
                assert scores == pytest.approx([expected[place] for place in some], abs=TOLERANCE)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(16)))
