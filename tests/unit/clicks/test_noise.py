"""Noise is told from relevance: positives from clicks are right whatever the noise and the amount of data."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from tests.unit.clicks.logs import clicked_logs, page

from quarry.clicks.log import Bool, ClickLog, Float64
from quarry.clicks.noise import LEAST_PAIRS, Noise, estimate_noise
from quarry.clicks.registry import CLICK_MODELS
from quarry.clicks.simulation import simulate_ranking
from quarry.clicks.users import UserBehaviour
from quarry.mining.spec import ClickModelName, FeedbackPositives
from quarry.schema import DEFAULT_SCHEMA
from quarry_miner.corpus import Corpus
from quarry_miner.job.click_learning import LearnedFromClicks, learn

QUERIES, RANKS = 400, 10
CERTAIN = 0.9
"""What users of `quarry simulate` find attractive in a document of the highest grade."""


def judged(seed: int = 0) -> Bool:
    """Which hits are relevant: four in ten at rank 1, seldom below it."""
    chance = 0.4 / np.arange(1, RANKS + 1)
    return np.random.default_rng(seed).random((QUERIES, RANKS)) < chance


RELEVANT = judged()


def learned(log: ClickLog, model: ClickModelName = "pbm", floor: float | None = None) -> LearnedFromClicks:
    return learn(log, FeedbackPositives(model=model, floor=floor))


def precision(found: LearnedFromClicks, relevant: Bool = RELEVANT) -> float:
    right = [relevant.ravel()[int(pair.document_id)] for pair in found.positives]
    assert len(right) > 10
    return float(np.mean(right))


def by_data(users: UserBehaviour, skew: float, swap: float) -> Iterator[float]:
    for searches in (5, 20, 80):
        log = simulate_ranking(CERTAIN * RELEVANT, users, searches * QUERIES, searches, skew=skew, swap=swap)
        yield precision(learned(log))


@pytest.mark.parametrize(
    ("noise", "skew", "swap"), [(0.0, 0.0, 0.1), (0.05, 1.0, 0.0), (0.1, 0.0, 0.1), (0.2, 1.0, 0.0)]
)
def test_precision_does_not_fall_as_data_grows(noise: float, skew: float, swap: float) -> None:
    """``benchmarks/quality/click_noise.py`` does the same over lists that Quarry ranked."""
    found = list(by_data(UserBehaviour(noise=noise), skew, swap))
    assert min(found) >= 0.9, found
    assert found[-1] >= max(found) - 0.03, found  # a wrong one in thirty is within chance


@pytest.mark.parametrize("model", sorted(CLICK_MODELS))
def test_it_holds_for_every_click_model(model: ClickModelName) -> None:
    for searches in (20, 60):
        log = simulate_ranking(CERTAIN * RELEVANT, UserBehaviour(), searches * QUERIES, 0)
        assert precision(learned(log, model)) >= 0.95


@pytest.mark.parametrize("users", ["cascade", "dbn"])
def test_it_holds_for_users_that_the_model_does_not_describe(users: str) -> None:
    behaviour = UserBehaviour(model=users)  # type: ignore[arg-type]
    log = simulate_ranking(CERTAIN * RELEVANT, behaviour, 60 * QUERIES, 0)
    assert precision(learned(log)) >= 0.95


def test_it_holds_for_grades_and_for_several_intents() -> None:
    random = np.random.default_rng(1)
    graded = RELEVANT * random.integers(1, 4, RELEVANT.shape) / 3
    mine = random.integers(2, size=RELEVANT.shape)[:, None] == np.arange(2)[:, None]
    intents = np.where(mine, RELEVANT[:, None], 0.2 * RELEVANT[:, None])
    for relevance, users in (
        (graded, UserBehaviour()),
        (intents, UserBehaviour(intent_shares=(0.5, 0.5))),
    ):
        log = simulate_ranking(CERTAIN * relevance, users, 60 * QUERIES, 0, skew=0.0, swap=0.1)
        found = learned(log)
        assert precision(found) >= 0.95
        assert len(found.positives) > 0.6 * RELEVANT.sum()
    weights = np.array(
        [
            pair.relevance
            for pair in learned(
                simulate_ranking(CERTAIN * graded, UserBehaviour(), 60 * QUERIES, 0, skew=0.0, swap=0.1)
            ).positives
        ]
    )
    assert weights.max() > 2 * weights.min()  # a low grade weighs less than a high one


def mixture(log: ClickLog) -> Noise:
    found = estimate_noise(log, CLICK_MODELS["pbm"].fit(log).estimates)
    assert found is not None
    return found


def test_rates_that_are_known_are_found() -> None:
    users = UserBehaviour(eta=0.0, noise=0.15, trust=0.0)
    found = mixture(simulate_ranking(CERTAIN * RELEVANT, users, 50 * QUERIES, 0, skew=0.0))
    assert found.noise_rate == pytest.approx(np.full(RANKS, 0.15), abs=0.02)
    assert found.relevant_rate == pytest.approx(np.full(RANKS, 0.915), abs=0.05)
    assert found.share == pytest.approx(RELEVANT.mean(axis=0), abs=0.02)
    assert ((found.noise_rate < found.floor) & (found.floor < found.relevant_rate)).all()
    assert "0.15" in found.note


def test_without_noise_every_click_tells() -> None:
    users = UserBehaviour(noise=0.0, trust=0.0)
    found = learned(simulate_ranking(CERTAIN * RELEVANT, users, 30 * QUERIES, 0, skew=0.0, swap=0.1))
    assert found.noise is not None and found.noise.noise_rate.max() < 0.01
    assert precision(found) == 1
    assert len(found.positives) > 0.85 * RELEVANT.sum()


def test_where_nothing_is_relevant_there_are_no_positives() -> None:
    log = simulate_ranking(np.zeros((QUERIES, RANKS)), UserBehaviour(), 60 * QUERIES, 0)
    assert len(learned(log).positives) <= 0.001 * QUERIES * RANKS


def test_too_few_pairs_are_said_and_judged_by_a_fixed_floor() -> None:
    few = LEAST_PAIRS // RANKS
    log = simulate_ranking(CERTAIN * RELEVANT[:few], UserBehaviour(), 10 * few, 0)
    found = learned(log)
    assert found.noise is None
    assert any("too few pairs" in note and "0.3" in note for note in found.notes)
    assert found.estimates is not None
    assert all(pair.relevance >= 0.3 for pair in found.positives)


def test_a_floor_that_is_asked_for_holds_and_a_low_one_is_warned_of() -> None:
    log = simulate_ranking(CERTAIN * RELEVANT, UserBehaviour(), 30 * QUERIES, 0)
    low, high = learned(log, floor=0.1), learned(log, floor=0.95)
    assert len(low.positives) > len(learned(log).positives) > len(high.positives)
    assert any("what is not relevant gets above it" in note for note in low.notes)
    assert not any("what is not relevant gets above it" in note for note in high.notes)


def test_the_same_log_gives_the_same_bits() -> None:
    log = simulate_ranking(CERTAIN * RELEVANT, UserBehaviour(), 10 * QUERIES, 0)
    first, second = mixture(log), mixture(replace(log))
    assert first.relevant.tobytes() == second.relevant.tobytes()
    assert learned(log).positives == learned(log).positives


def test_a_click_on_noise_is_no_evidence_of_relevance() -> None:
    """Everything that is shown a hundred times is clicked once, and `quarry` drops what is clicked."""
    log = simulate_ranking(CERTAIN * RELEVANT, UserBehaviour(eta=0.0), 60 * QUERIES, 0, skew=0.0, swap=0.1)
    found = learned(log)
    corpus = Corpus.from_documents([(id, {"text": id}) for id in log.documents], DEFAULT_SCHEMA)
    evidence = found.make_evidence(corpus)
    assert evidence is not None
    query, rank = np.nonzero(~RELEVANT)
    documents = (query * RANKS + rank).astype(np.int32)
    seen = evidence.observe(list(log.queries), query.astype(np.int32), documents, documents)
    assert found.estimates is not None and (found.estimates.clicks > 0).mean() > 0.95
    assert seen.clicked.mean() < 0.1
    relative = found.make_relevance()
    assert relative is not None
    pairs = zip(query.tolist(), documents.tolist(), strict=True)
    false = np.array([relative.look_up(str(q), str(d)) for q, d in pairs])
    assert np.nanmean(false) < 0.01


@settings(max_examples=8, deadline=None)
@given(log=clicked_logs())
def test_any_log_tells_probabilities_or_nothing(log: ClickLog) -> None:
    many = [replace(log, query=log.query + number * 2) for number in range(60)]
    names = [str(number) for number in range(120)]
    log = replace(
        log.select_rows(np.tile(np.arange(len(log)), 60)),
        queries=names,
        query=np.concatenate([m.query for m in many]),
    )
    for model in CLICK_MODELS.values():
        estimates = model.fit(log).estimates
        assert (estimates.examined >= estimates.clicks - 1e-9).all()
        found = estimate_noise(log, estimates)
        if found is not None:
            values: tuple[Float64, ...] = (found.relevant, found.noise_rate, found.relevant_rate, found.floor)
            assert all(((v >= 0) & (v <= 1)).all() for v in values)


def test_pages_seen_once_tell_no_noise() -> None:
    log = ClickLog.from_pages([page(f"q{n}", "abcde", "a") for n in range(500)])
    assert estimate_noise(log, CLICK_MODELS["pbm"].fit(log).estimates) is None


def test_a_positive_weighs_its_relevance_times_the_probability_that_it_is_no_noise() -> None:
    log = simulate_ranking(CERTAIN * RELEVANT, UserBehaviour(), 10 * QUERIES, 0)
    found = learned(log)
    assert found.estimates is not None and found.noise is not None
    pairs = {
        (log.queries[query], log.documents[document]): row
        for row, (query, document) in enumerate(
            zip(found.estimates.query.tolist(), found.estimates.document.tolist(), strict=True)
        )
    }
    rows = [pairs[pair.query, pair.document_id] for pair in found.positives]
    likely = found.noise.relevant[rows]
    assert likely.min() < 0.9  # so the probability tells some of them apart
    expected = found.estimates.relevance[rows] * likely
    np.testing.assert_allclose([pair.relevance for pair in found.positives], expected)
