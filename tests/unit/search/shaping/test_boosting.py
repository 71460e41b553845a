"""Boosts by fields and by age: what they do to scores and to the order."""

import itertools
import math
from random import Random
from typing import Any

import pytest

from quarry.errors import InvalidArgumentError
from quarry.filters import EqualTo
from quarry.ranking.queries import Query
from quarry.ranking.ranking import RankedDocument
from quarry.ranking.score_scale import ScoreBasis, scale_score
from quarry.ranking.shaping import LONGEST_HALF_LIFE_US, Boost, Freshness, Popularity, Shaping
from quarry.search.shaping.boosting import apply_boosts, measure_strengths
from quarry.types import Docno

DAY_US = 86_400_000_000
NOW_US = 1_000 * DAY_US
RED = EqualTo("color", "red")


def ranked(number: int, score: float, basis: ScoreBasis = ScoreBasis.FUSED) -> RankedDocument:
    return RankedDocument(Docno(number), f"d{number}", 1, score, scored_by=basis)


def scale(document: RankedDocument) -> float:
    return scale_score(document.scored_by, document.score)


def boosted(
    documents: list[RankedDocument], boosts: list[Boost], strengths: dict[int, tuple[float, ...]]
) -> list[RankedDocument]:
    return apply_boosts(documents, boosts, {Docno(n): s for n, s in strengths.items()}, scale)


def test_what_passes_a_filter_is_strong() -> None:
    assert measure_strengths([Boost(RED, 1.0)], {"color": ["blue", "red"]}, NOW_US) == (1.0,)
    assert measure_strengths([Boost(RED, 1.0)], {"color": "blue"}, NOW_US) == (0.0,)
    assert measure_strengths([Boost(RED, 1.0)], {}, NOW_US) == (0.0,)


@pytest.mark.parametrize(
    ("date", "strength"),
    [
        (NOW_US, 1.0),
        (NOW_US + DAY_US, 1.0),
        (NOW_US - 30 * DAY_US, 0.5),
        (NOW_US - 60 * DAY_US, 0.25),
        ([NOW_US - 300 * DAY_US, NOW_US - 30 * DAY_US], 0.5),
        (-(10**17), 0.0),
    ],
)
def test_strength_halves_with_each_half_life(date: int, strength: float) -> None:
    fresh = Boost(Freshness("date", 30 * DAY_US), 1.0)
    assert measure_strengths([fresh], {"date": date}, NOW_US) == (pytest.approx(strength),)


def test_without_a_date_a_document_is_as_old_as_can_be() -> None:
    assert measure_strengths([Boost(Freshness("date", DAY_US), 1.0)], {}, NOW_US) == (0.0,)


def test_a_factor_moves_a_document_up_and_shows_it() -> None:
    found = boosted([ranked(1, 0.6), ranked(2, 0.5)], [Boost(RED, 1.0)], {2: (1.0,)})
    assert [document.id for document in found] == ["d2", "d1"]
    assert [document.shape.score for document in found] == [0.5, 0.3]
    assert [(e.boost, e.strength, e.effect) for e in found[0].shape.boosts] == [(0, 1.0, 2.0)]
    assert found[1].shape.boosts == ()
    assert found[0].score == 0.5, "what an arm or a model said stays as it was"


def test_a_sum_moves_a_document_down() -> None:
    found = boosted([ranked(1, 0.6), ranked(2, 0.5)], [Boost(RED, -0.2, adds=True)], {1: (1.0,)})
    assert [document.id for document in found] == ["d2", "d1"]
    assert found[1].shape.boosts[0].effect == -0.2


def test_what_a_re_ranker_read_stays_above_what_it_did_not() -> None:
    found = boosted(
        [ranked(1, -3.0, ScoreBasis.FIRST_STAGE), ranked(2, 0.9)], [Boost(RED, 10.0)], {2: (1.0,)}
    )
    assert [document.id for document in found] == ["d1", "d2"]
    assert (found[0].shape.score or 0) >= 1 >= (found[1].shape.score or 0)


def test_equal_scores_keep_their_order() -> None:
    documents = [ranked(number, 0.5) for number in (3, 1, 2)]
    assert [d.id for d in boosted(documents, [Boost(RED, 1.0)], {})] == ["d3", "d1", "d2"]


def test_scores_never_rise_and_stay_in_their_stage_whatever_the_boosts() -> None:
    random = Random(16)
    for _ in range(300):
        boosts = [
            Boost(RED, random.choice((random.uniform(-1, 10), -1.0, 10.0)), random.random() < 0.5)
            for _ in range(random.randint(1, 5))
        ]
        bases = [ScoreBasis.SECOND_STAGE, ScoreBasis.FIRST_STAGE, ScoreBasis.FUSED, ScoreBasis.BM25]
        documents = [
            ranked(n, random.gauss(0, 5) if basis.re_ranked else random.random(), basis)
            for n, basis in enumerate(sorted(random.choices(bases, k=30), reverse=True))
        ]
        strengths = {n: tuple(random.random() for _ in boosts) for n in range(0, 30, 2)}
        found = boosted(documents, boosts, strengths)
        scores = [document.shape.score or 0.0 for document in found]
        assert all(above >= below for above, below in itertools.pairwise(scores))
        stages = [max(0, document.scored_by) for document in found]
        assert all(s <= score <= s + 1 for s, score in zip(stages, scores, strict=True))
        assert stages == sorted(stages, reverse=True)


@pytest.mark.parametrize("weight", [0.0, -1.01, 10.01, math.nan, math.inf, -math.inf])
def test_a_weight_out_of_its_range_is_refused(weight: float) -> None:
    with pytest.raises(InvalidArgumentError, match="weight"):
        Boost(RED, weight)


@pytest.mark.parametrize("half_life_us", [999_999, LONGEST_HALF_LIFE_US + 1, 2**62 * 1_000_000])
def test_a_half_life_out_of_its_range_is_refused(half_life_us: int) -> None:
    with pytest.raises(InvalidArgumentError, match="half_life"):
        Freshness("date", half_life_us)


def test_a_search_with_the_longest_half_life_has_a_hash() -> None:
    shaping = Shaping(boosts=(Boost(Freshness("date", LONGEST_HALF_LIFE_US), 1.0),))
    assert Query("words", (), shaping=shaping).hash_configuration()


@pytest.mark.parametrize(
    ("views", "strength"),
    [
        (100, 0.5),
        (300, 0.75),
        ([3, 300], 0.75),
        (0, 0.0),
        (-5, 0.0),
        (None, 0.0),
        (2**63 - 1, 1.0),
        (1e308, 1.0),
    ],
)
def test_strength_rises_with_a_number_and_is_half_where_it_says(views: Any, strength: float) -> None:
    fields = {} if views is None else {"views": views}
    measured = measure_strengths([Boost(Popularity("views", 100.0), 1.0)], fields, NOW_US)
    assert measured == pytest.approx((strength,))


def test_the_smallest_numbers_have_a_strength() -> None:
    for half, number in ((5e-324, 1e308), (1e308, 5e-324)):
        (strength,) = measure_strengths([Boost(Popularity("views", half), 1.0)], {"views": number}, NOW_US)
        assert 0 <= strength <= 1


@pytest.mark.parametrize("half", [0.0, -1.0, math.nan, math.inf])
def test_a_half_that_is_not_over_0_and_finite_is_refused(half: float) -> None:
    with pytest.raises(InvalidArgumentError, match="half"):
        Popularity("views", half)
