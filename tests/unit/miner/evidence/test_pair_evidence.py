"""What feedback says of pairs: counts by query text, and the graph of documents clicked together."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.miner.small import draw_texts, make_corpus

from quarry.clicks.log import ClickLog
from quarry.clicks.model import Estimates
from quarry_miner.evidence.coclick import Clicks, CoclickGraph
from quarry_miner.evidence.pair_evidence import FeedbackEvidence, NoEvidence


def graph(clicks: list[tuple[int, int, int]], documents: int = 8, least: float = 1 / 3) -> CoclickGraph:
    """Of (query, session, document) in order of time."""
    query, session, document = (np.array(column, np.int32) for column in zip(*clicks, strict=True))
    return CoclickGraph(Clicks(query, session, document), documents, least)


def overlap(of: CoclickGraph, first: int, second: int) -> float:
    return float(of.measure_overlap(np.array([first], np.int32), np.array([second], np.int32))[0])


def test_documents_clicked_for_one_query_only_overlap_wholly() -> None:
    assert overlap(graph([(0, 0, 1), (0, 1, 2)]), 1, 2) == 1.0


def test_overlap_is_shared_neighbours_by_all_neighbours() -> None:
    # neighbourhoods, each with the document itself: 1: {1, 2}, 2: {1, 2, 3}, 3: {2, 3}, 4: {4}
    of = graph([(0, 0, 1), (0, 1, 2), (1, 2, 2), (1, 3, 3), (2, 4, 4)])
    assert overlap(of, 1, 2) == pytest.approx(2 / 3)
    assert overlap(of, 1, 3) == pytest.approx(1 / 3)
    assert overlap(of, 1, 4) == 0
    assert np.isnan(overlap(of, 1, 5))


def test_clicks_of_a_visit_are_joined_by_the_inverse_of_their_distance() -> None:
    visit = [(q, 0, q) for q in range(5)]
    assert overlap(graph(visit, least=1.0), 0, 1) > 0
    # 0 and 4 are four clicks apart, and share no neighbour if only next clicks count
    assert overlap(graph(visit, least=1.0), 0, 4) == 0
    assert overlap(graph(visit), 0, 4) > 0  # through 1, 2 and 3


CLICKS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 7)), min_size=1, max_size=20)


@given(clicks=CLICKS, least=st.sampled_from([1 / 3, 0.5, 1.0, 2.0]))
def test_overlap_is_what_sets_say(clicks: list[tuple[int, int, int]], least: float) -> None:
    weight: dict[tuple[int, int], Fraction] = {}

    def join(a: int, b: int, by: Fraction) -> None:
        if a != b:
            weight[a, b] = weight.get((a, b), Fraction(0)) + by
            weight[b, a] = weight.get((b, a), Fraction(0)) + by

    for query in {q for q, _, _ in clicks}:
        chosen = sorted({d for q, _, d in clicks if q == query})
        for i, a in enumerate(chosen):
            for b in chosen[i + 1 :]:
                join(a, b, Fraction(1))
    for session in {s for _, s, _ in clicks}:
        visit = [d for _, s, d in clicks if s == session]
        for i, a in enumerate(visit):
            for apart in (1, 2, 3):
                if i + apart < len(visit):
                    join(a, visit[i + apart], Fraction(1, apart))
    floor = Fraction(least) - Fraction(1, 10**6)
    near = {d: {d} | {b for (a, b), w in weight.items() if a == d and w >= floor} for _, _, d in clicks}
    of = graph(clicks, least=least)
    for a in range(8):
        for b in range(8):
            if a in near and b in near:
                assert overlap(of, a, b) == pytest.approx(len(near[a] & near[b]) / len(near[a] | near[b]))
            else:
                assert np.isnan(overlap(of, a, b))


def test_neighbouring_queries_share_a_clicked_document() -> None:
    of = graph([(0, 0, 1), (1, 1, 1), (1, 2, 2), (2, 3, 3)])
    queries, documents = np.zeros(4, np.int32), np.array([1, 2, 3, 4], np.int32)
    assert of.find_near(queries, documents).tolist() == [True, True, False, False]


def test_a_query_without_a_click_shares_none_whatever_its_number() -> None:
    of = graph([(0, 0, 1), (1, 1, 1)])
    queries, documents = np.array([7, 0, 7], np.int32), np.array([1, 1, 2], np.int32)
    assert of.find_near(queries, documents).tolist() == [False, True, False]
    assert of.find_near(queries[:1], documents[:1]).tolist() == [False]


def test_feedback_answers_by_the_text_of_the_query_and_the_number_of_the_document() -> None:
    corpus = make_corpus(draw_texts(6, seed=0))
    log = ClickLog(
        queries=["bana kisi", "lotu"],
        texts=["bana kisi", "lotu"],
        documents=["d004", "gone", "d001"],
        query=np.array([0, 1], np.int32),
        search=np.array([0, 1], np.int32),
        session=np.array([0, 1], np.int32),
        owner=np.array([0, 1], np.int32),
        time_us=np.array([5, 4]),
        document=np.array([[0, 1, 2], [0, 2, -1]], np.int32),
        rank=np.array([[1, 2, 3], [1, 2, 0]], np.int32),
        clicked=np.array([[True, True, False], [True, True, False]]),
        refused=np.zeros((2, 3), bool),
        rank_before=np.array([[1, 2, 3], [1, 2, 0]], np.int32),
        ranker=np.zeros(2, np.int32),
        rendered=np.ones(2, bool),
    )
    figures = np.arange(1.0, 6.0)
    estimates = Estimates(
        query=np.array([0, 0, 0, 1, 1], np.int32),
        document=np.array([0, 1, 2, 0, 2], np.int32),
        relevance=figures / 10,
        lower=figures / 20,
        upper=figures / 5,
        impressions=np.array([10, 20, 30, 40, 50]),
        clicks=np.array([1, 1, 0, 1, 1]),
        refusals=figures,
        examined=figures + 1,
    )
    seen = FeedbackEvidence(log, estimates, corpus).observe(
        [" Bana KISI", "never asked"],
        np.array([0, 0, 0, 1], np.int32),
        np.array([4, 4, 4, 4], np.int32),
        np.array([4, 1, 2, 1], np.int32),
    )
    assert seen.shown.tolist() == [10, 30, 0, 0]
    assert seen.refusals.tolist() == [1, 3, 0, 0]
    assert seen.clicked.tolist() == [True, False, False, False]
    assert seen.clicked_near.tolist() == [True, True, False, False]
    assert seen.coclick[[0, 1, 3]].tolist() == [1, 1, 1]
    assert np.isnan(seen.coclick[2])


def test_without_feedback_nothing_is_known() -> None:
    seen = NoEvidence().observe(
        ["q"], np.zeros(2, np.int32), np.zeros(2, np.int32), np.array([1, 2], np.int32)
    )
    assert not seen.shown.any()
    assert np.isnan(seen.coclick).all()
