"""Clicks are read by the server's guards, and examination comes from the best source that they have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.unit.feedback.samples import KEY, NOON_US, event, log_with, page

from quarry.clicks.registry import CLICK_MODELS
from quarry.clicks.simulation import SimulatedWorld, simulate_log
from quarry.clicks.users import UserBehaviour
from quarry.documents.store import Database
from quarry.documents.tables import connect_database
from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.estimate import EstimateSpec
from quarry.mining.spec import FeedbackPositives, MiningSpec
from quarry_miner.evidence.logs import Logs, compute_clicks_digest
from quarry_miner.job.click_learning import learn
from quarry_miner.job.relevance_estimate import estimate_relevance
from quarry_miner.mining.work import hash_data

TRUTH = 1 / np.arange(1, 11)
SPEC = MiningSpec(name="s", collection="c", collection_key=KEY, server="")
ESTIMATE = EstimateSpec(collection="c", collection_key=KEY)
STRICT = GuardPolicy(choices_per_minute=1)


def test_the_guards_that_are_asked_for_say_which_clicks_count(tmp_path: Path) -> None:
    users = enumerate("uuv")  # u clicks twice in a minute
    pages = [page(f"s{n}", user=user, query=f"q{n}", time_us=NOON_US + n) for n, user in users]
    log_with(tmp_path, pages, [event(document="abc"[n], search_id=f"s{n}") for n in range(3)])
    database = Database(connect_database(tmp_path / "documents.db"))
    logs = Logs(tmp_path, database)
    assert len(logs.read_clicks(KEY, GuardPolicy())) == 3
    assert len(logs.read_clicks(KEY, STRICT)) == 1
    database.close()


def test_guards_are_a_part_of_what_is_asked() -> None:
    strict = SPEC.model_copy(update={"guards": STRICT})
    assert hash_data(strict) != hash_data(SPEC)
    assert MiningSpec.model_validate_json(strict.model_dump_json()).guards == STRICT
    asked = ESTIMATE.model_copy(update={"guards": STRICT})
    assert EstimateSpec.model_validate_json(asked.model_dump_json()).guards == STRICT


def test_exploration_tells_examination_where_clicks_alone_mislead() -> None:
    """Queries asked once or twice, one ranker: only chance has moved hits."""
    world = SimulatedWorld(queries=20_000, rankers=1, swaps=True)
    log, _ = simulate_log(world, UserBehaviour(trust=0.0), 40_000, 0)
    found = estimate_relevance(log, ESTIMATE)
    assert any("swaps" in note for note in found.notes)
    off = np.array([one.value for one in found.examination]) / TRUTH - 1
    assert np.abs(off).max() < 0.15
    plain = CLICK_MODELS["pbm"].fit(log).examination
    assert plain is not None
    assert np.abs(plain.value / TRUTH - 1).max() > 1


def test_mining_learns_from_exploration_too() -> None:
    log, _ = simulate_log(
        SimulatedWorld(queries=200, rankers=1, swaps=True), UserBehaviour(trust=0.0), 10_000, 0
    )
    asked = FeedbackPositives()
    learned = learn(log, asked)
    assert any("swaps" in note for note in learned.notes)
    assert learned.digest == compute_clicks_digest(log)
    alone = learn(replace(log, owner=np.zeros(len(log), np.int32)), asked)
    assert learned.positives
    assert not alone.positives
    assert any("fewer than 2 users" in note for note in alone.notes)


def test_what_ubm_and_affine_do_not_do_is_said() -> None:
    log, _ = simulate_log(SimulatedWorld(queries=50), UserBehaviour(), 2_000, 0)
    affine, ubm = (" ".join(learn(log, FeedbackPositives(model=name)).notes) for name in ("affine", "ubm"))
    assert "learns examination itself" in affine and "learns examination itself" in ubm
    assert "less sure than its intervals" in affine
    assert "Trust in high ranks is no part" in ubm
