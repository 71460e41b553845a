import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.clicks.users import UserBehaviour, UserModel, simulate_page, simulate_pages, spread_relevance

MODELS = st.sampled_from(["pbm", "cascade", "dbn"])


def flat(value: float, pages: int = 100_000, ranks: int = 4) -> np.ndarray:
    return np.full((pages, ranks), value)


def test_position_based_users_click_by_examination_noise_and_trust() -> None:
    """Relevance 1/2, noise 0.1, trust 0.2: at rank 2 a share 1/2 * (0.2 + 0.8 * 0.5) = 0.3 is clicked."""
    users = UserBehaviour(noise=0.1, trust=0.2)
    rate = simulate_pages(flat(0.5), users, np.random.default_rng(0)).clicked.mean(axis=0)
    ranks = np.arange(1, 5)
    irrelevant = 0.1 + 0.2 / ranks
    assert rate == pytest.approx((irrelevant + (1 - irrelevant) * 0.5) / ranks, abs=0.006)
    assert rate[1] == pytest.approx(0.3, abs=0.006)


def test_cascade_users_click_at_most_once_and_see_nothing_below() -> None:
    found = simulate_pages(flat(0.3, 5_000), UserBehaviour("cascade"), np.random.default_rng(0))
    assert found.clicked.sum(axis=1).max() == 1
    below = np.cumsum(found.clicked, axis=1) - found.clicked > 0
    assert not found.examined[below].any()
    assert found.examined[~below].all()


def test_dbn_users_stop_when_satisfied() -> None:
    users = UserBehaviour("dbn", persistence=1.0, satisfaction=1.0)
    found = simulate_pages(flat(1.0, 50), users, np.random.default_rng(0))
    assert found.satisfied[:, 0].all()
    assert not found.examined[:, 1:].any()
    patient = simulate_pages(
        flat(1.0, 50), UserBehaviour("dbn", persistence=1.0, satisfaction=0.0), np.random.default_rng(0)
    )
    assert patient.clicked.all()


@settings(max_examples=40, deadline=None)
@given(model=MODELS, seed=st.integers(0, 2**32), ranks=st.integers(0, 6), noise=st.floats(0, 0.9))
def test_a_seed_gives_the_same_clicks_and_only_what_is_examined_is_clicked(
    model: UserModel, seed: int, ranks: int, noise: float
) -> None:
    users = UserBehaviour(model, noise=noise)
    relevance = np.random.default_rng(seed).random((7, ranks))
    once, again = (simulate_pages(relevance, users, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(once.clicked, again.clicked)
    assert np.array_equal(once.dwell_s, again.dwell_s)
    assert not (once.clicked & ~once.examined).any()
    assert not (once.satisfied & ~once.clicked).any()
    assert ((once.dwell_s > 0) == once.clicked).all()


def test_places_without_a_hit_are_never_clicked() -> None:
    shown = np.array([[True, False]] * 100)
    users = UserBehaviour(eta=0.0, noise=0.9)
    found = simulate_pages(flat(1.0, 100, 2), users, np.random.default_rng(0), shown=shown)
    assert found.clicked[:, 0].all()
    assert not found.clicked[:, 1].any() and not found.examined[:, 1].any()


def test_users_mean_one_intent_each_by_its_share() -> None:
    """Hit 0 answers intent 0 alone, hit 1 intent 1: without noise a share of 3/4 clicks hit 0."""
    users = UserBehaviour(eta=0.0, noise=0.0, trust=0.0, intent_shares=(0.75, 0.25))
    relevance = spread_relevance(np.ones(2), np.array([0, 1]), 2, elsewhere=0.0)
    assert relevance.tolist() == [[1, 0], [0, 1]]
    many = np.broadcast_to(relevance, (20_000, 2, 2))
    clicked = simulate_pages(many, users, np.random.default_rng(0)).clicked
    assert (clicked.sum(axis=1) == 1).all()
    assert clicked[:, 0].mean() == pytest.approx(0.75, abs=0.02)


def test_a_hit_that_answers_all_is_relevant_to_all() -> None:
    made = spread_relevance(np.array([0.5, 1.0]), np.array([-1, 0]), 2)
    assert made.tolist() == [[0.5, 1.0], [0.5, 0.2]]


def test_one_page_starts_at_the_rank_given() -> None:
    users = UserBehaviour(eta=30.0)
    first = simulate_page(np.ones(1), users, np.random.default_rng(0))
    later = simulate_page(np.ones(1), users, np.random.default_rng(0), first_rank=11)
    assert first.examined.tolist() == [[True]]
    assert later.examined.tolist() == [[False]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "other"},
        {"eta": -1.0},
        {"noise": 1.0},
        {"trust": -0.1},
        {"persistence": 0.0},
        {"satisfaction": 1.1},
        {"intent_shares": (0.5, 0.4)},
        {"intent_shares": ()},
        {"dwell_s": (0.0, 1.0)},
    ],
)
def test_behaviour_outside_its_ranges_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        UserBehaviour(**wrong)  # type: ignore[arg-type]


def test_relevance_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="relevance"):
        simulate_page(np.array([1.5]), UserBehaviour(), np.random.default_rng(0))
    with pytest.raises(ValueError, match="intents"):
        simulate_page(np.ones((3, 2)), UserBehaviour(), np.random.default_rng(0))
