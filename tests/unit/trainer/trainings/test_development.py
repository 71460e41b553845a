"""Judged queries choose when to stop and how to blend; without them a careful choice is made."""

from collections.abc import Sequence

import pytest
from tests.unit.trainer.ranked import candidates

from quarry.mining.spec import JudgedQuery
from quarry.models.base import PairScore
from quarry.models.blend import RERANKER_ALONE, Blend
from quarry_trainer.data.known_unseen import LEAST_OF_HALF
from quarry_trainer.trainings.blending import CAREFUL, choose_blend
from quarry_trainer.trainings.development import MEASURED_QUERIES, Development


def hashed(passage: str) -> float:
    return float(sum(passage.encode()) % 97)


class ByText:
    """Scores a pair by a hash of its passage."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(hashed(passage), False) for _, passage in pairs]


def test_where_nothing_is_judged_the_blend_is_the_careful_one() -> None:
    nobody = Development([], [], {})
    assert nobody.ranked == []
    assert choose_blend(ByText(), Blend(rerank=1.0, fused=30.0), nobody).fused == CAREFUL * 30.0


def test_queries_at_the_end_choose_when_to_stop_as_well() -> None:
    whole = candidates(75)
    queries = [JudgedQuery(id=q.query_id, text="a query", judgments={q.documents[0]: 1}) for q in whole]
    measured = Development(whole, queries, dict.fromkeys((q.id for q in queries), True)).ranked
    assert len(measured) == MEASURED_QUERIES
    assert sum(int(query.query_id[1:]) >= 60 for query in measured) in (9, 10, 11)


@pytest.mark.parametrize("unseen", [LEAST_OF_HALF - 1, LEAST_OF_HALF])
def test_unseen_queries_count_for_half_once_there_are_enough_of_them(unseen: int) -> None:
    whole = candidates(20)
    texts = {query.query_id: query.passages for query in whole}
    known = {query.query_id: place >= unseen for place, query in enumerate(whole)}
    top = {query.query_id: max(query.documents, key=lambda d: hashed(f"text of {d}")) for query in whole}
    # Of known queries what scores highest is relevant, of unseen ones what scores lowest.
    relevant = {id: top[id] if known[id] else min(texts[id], key=hashed)[len("text of ") :] for id in known}
    queries = [JudgedQuery(id=id, text="a query", judgments={relevant[id]: 1}) for id in known]
    measured = Development(whole, queries, known).measure_ndcg(ByText(), RERANKER_ALONE)
    assert measured == pytest.approx(0.5 if unseen == LEAST_OF_HALF else (20 - unseen) / 20)
