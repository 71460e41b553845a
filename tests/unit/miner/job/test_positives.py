"""Positives come from judgments, from clicks, or from both; nothing is dropped unsaid."""

import numpy as np
import pytest

from quarry.mining.spec import JudgedQuery
from quarry.schema import DEFAULT_SCHEMA
from quarry_miner.clicks.base import ClickLog, Estimates
from quarry_miner.corpus import Corpus
from quarry_miner.positives import Clicked, above_floor, join_positives

CORPUS = Corpus.of_documents([(id, {"text": id}) for id in "abcd"], DEFAULT_SCHEMA)


def judged(id: str, text: str, **grades: int) -> JudgedQuery:
    return JudgedQuery(id=id, text=text, judgments=grades)


def test_judged_documents_of_a_grade_over_0_are_positives_of_weight_1() -> None:
    found = join_positives([judged("1", "x", a=2, b=0)], [], CORPUS)
    (query,) = found.queries
    assert [(p.document, p.weight, p.source) for p in query.positives] == [(0, 1.0, "judged")]
    assert found.pairs == found.judged_pairs == 1


def test_clicks_for_the_text_of_a_judged_query_are_its_own() -> None:
    clicked = [Clicked("how to", "c", 0.5), Clicked("how to", "a", 0.4)]
    found = join_positives([judged("1", " How To ", a=1)], clicked, CORPUS)
    (query,) = found.queries
    assert [(p.document, p.source) for p in query.positives] == [(0, "judged"), (2, "clicked")]


def test_a_judgment_outweighs_clicks() -> None:
    found = join_positives([judged("1", "x", a=1, b=0)], [Clicked("x", "b", 0.9)], CORPUS)
    assert found.contradicted == 1
    assert found.clicked_pairs == 0


def test_clicked_queries_come_after_judged_ones_by_text_and_weigh_their_relevance() -> None:
    clicked = [Clicked("z", "a", 0.2), Clicked("y", "b", 0.8)]
    found = join_positives([judged("1", "x", a=1)], clicked, CORPUS)
    assert [query.id for query in found.queries] == ["1", "click:y", "click:z"]
    assert [query.positives[0].weight for query in found.queries] == [1.0, 1.0, pytest.approx(0.25)]


def test_documents_that_the_collection_lacks_are_counted_and_named() -> None:
    found = join_positives(
        [judged("1", "x", a=1, zz=1), judged("2", "y", zz=1), judged("3", "w", a=0)],
        [Clicked("v", "yy", 0.5)],
        CORPUS,
    )
    assert found.unknown == ("yy", "zz")
    assert found.unknown_pairs == 3
    assert found.without_positive == 2
    assert [query.id for query in found.queries] == ["1"]


def test_only_clicked_pairs_over_the_floor_are_positives() -> None:
    log = ClickLog.of([])
    numbers = np.arange(3, dtype=np.int32)
    estimates = Estimates(
        query=np.zeros(3, np.int32),
        document=numbers,
        relevance=np.array([0.5, 0.5, 0.5]),
        lower=np.array([0.3, 0.3, 0.1]),
        upper=np.ones(3),
        impressions=np.full(3, 9),
        clicks=np.array([4, 0, 4]),
        refusals=np.zeros(3),
    )
    object.__setattr__(log, "queries", ["q"])
    object.__setattr__(log, "documents", ["a", "b", "c"])
    assert above_floor(log, estimates, 0.2) == [Clicked("q", "a", 0.5)]
