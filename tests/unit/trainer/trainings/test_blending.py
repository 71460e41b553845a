"""How much the fused score counts beside a re-ranker's."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.trainer.ranked import candidates, grades_of, ranked_query, scores_by

from quarry.models.blend import RERANKER_ALONE, Blend
from quarry_trainer.data.live import RankedQuery
from quarry_trainer.evaluation.scoring import FUSED_ALONE, order_by_blend
from quarry_trainer.measures import NDCG, measure_per_query
from quarry_trainer.trainings.blending import CAREFUL, LEAST_PROOF, TIMES, fit_blend

TRAINED = Blend(rerank=1.0, fused=10.0)
"""Beside scores that spread by 3: fused ones of twenty candidates spread by 0.15, and so have half as much to
say."""


@pytest.mark.parametrize("seed", range(5))
def test_a_useless_model_does_little_harm(seed: int) -> None:
    random = np.random.default_rng(seed)
    ranked = candidates(200)
    qrels = grades_of(ranked, random, towards_top=0.5)
    scores = scores_by(ranked, qrels, random, skill=0.0)
    blend = fit_blend(ranked[:80], scores[:80], qrels, TRAINED)

    def ndcg(blend: Blend) -> float:
        orders = {
            q.query_id: order_by_blend(q, some, blend)
            for q, some in zip(ranked[80:], scores[80:], strict=True)
        }
        return float(measure_per_query(orders, {id: qrels[id] for id in orders})[NDCG].mean())

    assert ndcg(blend) > ndcg(FUSED_ALONE) - 0.02
    assert ndcg(RERANKER_ALONE) < ndcg(FUSED_ALONE) - 0.05


def test_the_blend_that_orders_best_is_chosen_however_little_it_is_ahead() -> None:
    """Five of fifty queries are right with twice the fused score alone, four with four times alone."""
    gap = 3 * TRAINED.fused  # between what the model has to make up with two times and with four
    fused = np.array([1.0, 0.0])
    ranked = [replace(ranked_query(f"q{n}", ["a", "b"]), fused=fused) for n in range(50)]
    scores = [np.array([0.0, gap if n < 9 else 0.0]) for n in range(50)]
    qrels = {f"q{n}": {"b" if n < 5 else "a": 1} for n in range(50)}
    by_heart = dict.fromkeys(qrels, True)  # so that it takes CAREFUL at least
    assert fit_blend(ranked, scores, qrels, TRAINED, by_heart).fused == CAREFUL * TRAINED.fused


def test_a_model_that_is_against_the_judgments_is_left_out() -> None:
    random = np.random.default_rng(1)
    ranked = candidates(40)
    qrels = grades_of(ranked, random, towards_top=0.5)
    assert fit_blend(ranked, scores_by(ranked, qrels, random, skill=-3.0), qrels, TRAINED) == FUSED_ALONE


def test_beside_a_perfect_model_the_fused_score_counts_as_it_did_in_training() -> None:
    random = np.random.default_rng(2)
    ranked = candidates(100, depth=30)
    graded = {q.query_id: {d: int(random.integers(0, 50)) for d in q.documents} for q in ranked}
    scores = [np.array([graded[q.query_id][d] for d in q.documents], np.float64) for q in ranked]
    assert fit_blend(ranked, scores, graded, TRAINED) == TRAINED


def test_beside_a_model_that_knows_little_the_fused_score_counts_more() -> None:
    random = np.random.default_rng(3)
    ranked = candidates(300)
    qrels = grades_of(ranked, random, towards_top=0.5)
    blend = fit_blend(ranked, scores_by(ranked, qrels, random, skill=1.0), qrels, TRAINED)
    assert blend.rerank == 1
    assert blend.fused > TRAINED.fused


def test_a_model_that_knows_by_heart_is_held_to_what_it_does_not_know() -> None:
    """Nine of ten queries are known and answered perfectly; to the others the model is harmful."""
    random = np.random.default_rng(5)
    ranked = candidates(200)
    qrels = grades_of(ranked, random, towards_top=0.5)
    known = {query.query_id: n % 10 != 0 for n, query in enumerate(ranked)}
    by_heart = scores_by(ranked, qrels, random, skill=8.0)
    against = scores_by(ranked, qrels, random, skill=-8.0)
    scores = [a if known[q.query_id] else b for q, a, b in zip(ranked, by_heart, against, strict=True)]
    assert fit_blend(ranked, scores, qrels, TRAINED).rerank == 1
    assert fit_blend(ranked, scores, qrels, TRAINED, known) == FUSED_ALONE


@pytest.mark.parametrize("winning", [True, False])
def test_neither_known_nor_unseen_queries_pay_for_the_others_gain(winning: bool) -> None:
    """The model knows half of the queries by heart; of the others the fused order knows much more."""
    random = np.random.default_rng(9)
    ranked = candidates(200)
    wins = {query.query_id: n % 2 == 0 for n, query in enumerate(ranked)}
    known = {id: won == winning for id, won in wins.items()}
    anywhere, on_top = grades_of(ranked, random), grades_of(ranked, random, towards_top=2.0)
    qrels = {id: (anywhere if won else on_top)[id] for id, won in wins.items()}
    by_heart = scores_by(ranked, qrels, random, skill=8.0)
    hints = scores_by(ranked, qrels, random, skill=1.0)
    scores = [a if wins[q.query_id] else b for q, a, b in zip(ranked, by_heart, hints, strict=True)]

    def gain(blend: Blend, wanted: bool) -> float:
        some = {id: qrels[id] for id, won in wins.items() if won == wanted}

        def ndcg(blend: Blend) -> float:
            orders = {
                q.query_id: order_by_blend(q, of, blend)
                for q, of in zip(ranked, scores, strict=True)
                if q.query_id in some
            }
            return float(measure_per_query(orders, some)[NDCG].mean())

        return ndcg(blend) - ndcg(FUSED_ALONE)

    blend = fit_blend(ranked, scores, qrels, TRAINED, known)
    assert gain(blend, True) > 0.2
    assert gain(blend, False) >= -0.01
    assert gain(RERANKER_ALONE, False) < -0.05


def perfect(
    depth: int = 30,
) -> tuple[list[RankedQuery], dict[str, dict[str, int]], list[NDArray[np.float64]]]:
    """Sixty queries, judged at random, and the scores of a model that knows the judgments."""
    random = np.random.default_rng(6)
    ranked = candidates(60, depth)
    graded = {q.query_id: {d: int(random.integers(0, 50)) for d in q.documents} for q in ranked}
    return ranked, graded, [np.array([graded[q.query_id][d] for d in q.documents], float) for q in ranked]


def test_where_nothing_unseen_was_asked_the_fused_score_has_its_least_weight() -> None:
    ranked, graded, scores = perfect()
    by_heart = dict.fromkeys(graded, True)
    assert fit_blend(ranked, scores, graded, TRAINED, by_heart).fused == CAREFUL * TRAINED.fused
    some_unseen = {id: n % 2 == 0 for n, id in enumerate(graded)}
    for known in (some_unseen, dict.fromkeys(graded, False), None):
        assert fit_blend(ranked, scores, graded, TRAINED, known) == TRAINED


@pytest.mark.parametrize("questions", [LEAST_PROOF - 1, LEAST_PROOF])
def test_a_few_unseen_questions_do_not_prove_that_the_fused_score_may_count_less(questions: int) -> None:
    ranked, graded, scores = perfect()
    wordings = [replace(query, query_id=f"{query.query_id}:again") for query in ranked[:questions]]
    graded |= {q.query_id: graded[q.query_id.split(":")[0]] for q in wordings}
    asked = [*ranked, *wordings]
    known = {q.query_id: questions <= n < 60 for n, q in enumerate(asked)}
    blend = fit_blend(asked, [*scores, *scores[:questions]], graded, TRAINED, known)
    assert blend.fused == (CAREFUL if questions < LEAST_PROOF else TIMES[0]) * TRAINED.fused


@pytest.mark.parametrize("wordings", [1, 8])
def test_one_unseen_question_leaves_no_good_model_out(wordings: int) -> None:
    ranked, graded, scores = perfect()
    ranked += [replace(ranked[0], query_id=f"q0:{n}") for n in range(wordings)]
    graded |= {q.query_id: graded["q0"] for q in ranked[60:]}
    known = {q.query_id: 0 < n < 60 for n, q in enumerate(ranked)}
    assert fit_blend(ranked, [*scores, *scores[:1] * wordings], graded, TRAINED, known) != FUSED_ALONE


def test_the_last_bits_of_scores_change_nothing() -> None:
    random = np.random.default_rng(8)
    ranked = candidates(60)
    qrels = grades_of(ranked, random, towards_top=0.3)
    scores = scores_by(ranked, qrels, random, skill=1.5)
    nearly = [replace(query, fused=query.fused * (1 + 1e-7)) for query in ranked]
    assert fit_blend(nearly, scores, qrels, TRAINED) == fit_blend(ranked, scores, qrels, TRAINED)
    assert fit_blend(ranked, scores, qrels, TRAINED) != FUSED_ALONE


def test_a_model_that_changes_no_order_is_left_out() -> None:
    two = [ranked_query("q", ["a", "b"])]
    assert fit_blend(two, [np.array([1.0, 1.0])], {"q": {"b": 1}}, TRAINED) == FUSED_ALONE


def test_where_nothing_is_judged_the_blend_is_the_careful_one() -> None:
    two = [ranked_query("q", ["a", "b"])]
    careful = Blend(rerank=1.0, fused=CAREFUL * TRAINED.fused)
    assert fit_blend(two, [np.array([0.0, 1.0])], {"q": {"a": 0}}, TRAINED) == careful
    assert fit_blend([], [], {}, TRAINED) == careful
    assert fit_blend([], [], {}, RERANKER_ALONE) == RERANKER_ALONE


def test_a_blended_order_is_the_one_that_the_blend_itself_gives() -> None:
    random = np.random.default_rng(6)
    fused = sorted(random.random(30).round(1).tolist(), reverse=True)
    query = ranked_query("q", [f"d{n:02}" for n in range(30)], fused)
    scores = random.normal(size=30).round(1)
    for blend in (Blend(), Blend(rerank=1, fused=3.7), FUSED_ALONE):
        served = sorted(
            zip(query.documents, scores.tolist(), query.fused.tolist(), strict=True),
            key=lambda one: (-blend.score(one[1], one[2]), -one[2] if blend.fused else 0, one[0]),
        )
        assert order_by_blend(query, scores, blend) == tuple(id for id, _, _ in served)
