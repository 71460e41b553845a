"""Positives come from judgments, from clicks, or from both; nothing is dropped unsaid."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.clicks.logs import page

from quarry.clicks.log import ClickLog
from quarry.clicks.model import Estimates
from quarry.mining.spec import JudgedQuery
from quarry.schema import DEFAULT_SCHEMA
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.positives import ClickedDocument, join_positives, keep_agreed, select_above_floor

CORPUS = Corpus.from_documents([(id, {"text": id}) for id in "abcd"], DEFAULT_SCHEMA)


def judged(id: str, text: str, **grades: int) -> JudgedQuery:
    return JudgedQuery(id=id, text=text, judgments=grades)


def test_judged_documents_of_a_grade_over_0_are_positives_of_weight_1() -> None:
    found = join_positives([judged("1", "x", a=2, b=0)], [], CORPUS)
    (query,) = found.queries
    assert [(p.document, p.weight, p.source) for p in query.positives] == [(0, 1.0, "judged")]
    assert found.pairs == found.judged_pairs == 1


def test_clicks_for_the_text_of_a_judged_query_are_its_own() -> None:
    clicked = [ClickedDocument("how to", "c", 0.5), ClickedDocument("how to", "a", 0.4)]
    found = join_positives([judged("1", " How To ", a=1)], clicked, CORPUS)
    (query,) = found.queries
    assert [(p.document, p.source) for p in query.positives] == [(0, "judged"), (2, "clicked")]


def test_a_judgment_outweighs_clicks() -> None:
    found = join_positives([judged("1", "x", a=1, b=0)], [ClickedDocument("x", "b", 0.9)], CORPUS)
    assert found.contradicted == 1
    assert found.clicked_pairs == 0


def test_clicked_queries_come_after_judged_ones_by_text_and_weigh_their_relevance() -> None:
    clicked = [ClickedDocument("z", "a", 0.2), ClickedDocument("y", "b", 0.8)]
    found = join_positives([judged("1", "x", a=1)], clicked, CORPUS)
    assert [query.id for query in found.queries] == ["1", "click:y", "click:z"]
    assert [query.positives[0].weight for query in found.queries] == [1.0, 1.0, pytest.approx(0.25)]


def test_a_positive_of_another_query_with_the_same_text_is_one_of_this() -> None:
    found = join_positives(
        [judged("1", "x", a=1), judged("2", " X", b=1, c=0), judged("3", "y", c=1)], [], CORPUS
    )
    documents = {query.id: [p.document for p in query.positives] for query in found.queries}
    assert documents == {"1": [0, 1], "2": [1, 0], "3": [2]}


def test_a_question_that_is_written_in_several_ways_is_one() -> None:
    clicked = [ClickedDocument("red fruit", "c", 0.5)]
    found = join_positives([judged("1", "Red fruit", a=1), judged("2", "red fruit?", b=1)], clicked, CORPUS)
    documents = {query.id: sorted(p.document for p in query.positives) for query in found.queries}
    assert documents == {"1": [0, 1, 2], "2": [0, 1, 2]}
    log = ClickLog.from_pages(
        [page("red fruit", "abc", "a"), page("Red fruit?", "abc", "b"), page("c++", "abc", "")]
    )
    assert list(log.queries) == ["red fruit", "c++"]


def test_a_document_without_a_word_is_no_positive_and_is_named() -> None:
    corpus = Corpus.from_documents([("a", {"text": "red"}), ("b", {"text": " ?"}), ("c", {})], DEFAULT_SCHEMA)
    found = join_positives(
        [judged("1", "x", a=1, b=1), judged("2", "y", c=1)], [ClickedDocument("z", "b", 1)], corpus
    )
    assert [(query.id, [p.document for p in query.positives]) for query in found.queries] == [("1", [0])]
    assert (found.wordless, found.wordless_pairs, found.without_positive) == (("b", "c"), 3, 1)
    assert (found.unknown, found.unknown_pairs) == ((), 0)


def test_judgments_of_one_question_that_contradict_each_other_are_named() -> None:
    found = join_positives(
        [judged("1", "red fruit", a=1, b=0), judged("2", "Red fruit?", a=0, b=0)], [], CORPUS
    )
    assert [[p.document for p in query.positives] for query in found.queries] == [[0], [0]]
    assert found.disputed == (("red fruit", "a"),)


def test_one_person_makes_no_positive_alone() -> None:
    """The user says who it is, without one the session, without one the search."""
    once = page("q", "abc", "ab", session="s1")
    visits = [
        replace(once, user_id="u"),
        replace(once, user_id="u", session_id="s2", clicked=(False, True, True)),
        replace(once, session_id="s3", clicked=(False, True, False)),
        replace(once, session_id="", search_id="p1", clicked=(False, False, True)),
    ]
    log = ClickLog.from_pages(visits)
    assert log.owner.tolist() == [0, 0, 1, 2]
    found = [ClickedDocument("q", id, 0.5) for id in "abc"]
    assert [pair.document_id for pair in keep_agreed(found, log)] == ["b", "c"]
    assert keep_agreed([], ClickLog.from_pages([])) == []


def test_documents_that_the_collection_lacks_are_counted_and_named() -> None:
    found = join_positives(
        [judged("1", "x", a=1, zz=1), judged("2", "y", zz=1), judged("3", "w", a=0)],
        [ClickedDocument("v", "yy", 0.5)],
        CORPUS,
    )
    assert found.unknown == ("yy", "zz")
    assert found.unknown_pairs == 3
    assert found.without_positive == 2
    assert [query.id for query in found.queries] == ["1"]


def test_only_clicked_pairs_over_the_floor_are_positives() -> None:
    log = ClickLog.from_pages([])
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
        examined=np.array([4.0, 0.0, 4.0]),
    )
    object.__setattr__(log, "queries", ["q"])
    object.__setattr__(log, "documents", ["a", "b", "c"])
    assert select_above_floor(log, estimates, 0.2) == [ClickedDocument("q", "a", 0.5)]
