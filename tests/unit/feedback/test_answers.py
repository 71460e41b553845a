"""What the log is handed of a page, and what the token of the page says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.unit.search.fakes import FixedDocuments

from quarry.feedback.answers import AnswerLog, PoolPolicy
from quarry.feedback.attribution_tokens import SigningKey, TokenSigner, compute_page_digest
from quarry.feedback.impressions import AnsweredPage
from quarry.feedback.types import Impression
from quarry.ranking.ranking import (
    ArmPlace,
    Degradation,
    DegradationReason,
    RankedDocument,
    Ranking,
    Reach,
    ReachLimit,
    RerankScore,
    Total,
)
from quarry.schema import DEFAULT_SCHEMA
from quarry.search.exploration import FairPairs, compute_seed, explore
from quarry.search.logged_request import LoggedRequest, SearchContext
from quarry.search.page_log import GivenPage
from quarry.search.result_pages import ListPlace
from quarry.types import Docno

SIGNER = TokenSigner([SigningKey(1, b"secret", 0)])
SEARCH = "search-5"
CONTEXT = SearchContext(user_id="u", surface="app", attributes={"a": "b"})
PAIRS = FairPairs(0.5, depth=4)
COUNT = 6


class Buffer:
    """Keeps what it is offered."""

    def __init__(self) -> None:
        self.pages: list[AnsweredPage] = []

    def offer(self, page: AnsweredPage) -> bool:
        self.pages.append(page)
        return True


def ranked(n: int) -> RankedDocument:
    """``d0`` is the best by the fused score; the re-ranker has read the first two and turned them round."""
    readings = (RerankScore("m", float(n)),) if n < 2 else ()
    arms = {"bm25": ArmPlace(n + 1, 9.0 - n, 0.5)}
    return RankedDocument(Docno(n), f"d{n}", 1, 1.0 - n / 10, arms, None, n + 1, 1.0 - n / 10, readings)


def given(exploration: FairPairs, offset: int = 0, size: int = 3) -> GivenPage:
    documents = explore([ranked(n) for n in (1, 0, 2, 3, 4, 5)], exploration, SEARCH)
    degraded = (Degradation("dense", DegradationReason.TIMEOUT, "late"),)
    reach = Reach(Total(6, True), ReachLimit.NONE, Total(0, True))
    ranking = Ranking(
        documents, Total(6, True), degraded, {}, "g", ("m",), "00000000000000ab", reach, "faq/1"
    )
    shown = [(n, documents[n], documents[n].id, 7) for n in range(offset, offset + size)]
    request = LoggedRequest("two words", b"filter", CONTEXT, exploration)
    log = FixedDocuments({n: {"title": "T", "text": f"t{n}"} for n in range(COUNT)})
    return GivenPage(9, DEFAULT_SCHEMA, log, ListPlace(SEARCH, offset), request, ranking, shown, COUNT)


def logged(page: GivenPage, pool: PoolPolicy | None = None) -> tuple[Impression, str]:
    """What the log makes of a page, whose texts have ``hash of DOCNO VERSION`` for a hash; and the token."""
    buffer = Buffer()
    token = AnswerLog(buffer, SIGNER, pool or PoolPolicy()).log(page)
    (answered,) = buffer.pages
    assert answered.source.key == 9
    return answered.made.make_impression(lambda docno, version: f"hash of {docno} {version}"), token


def test_an_impression_says_who_asked_what_and_how_it_was_answered() -> None:
    impression, _ = logged(given(FairPairs()))
    assert (impression.search_id, impression.offset, impression.query) == (SEARCH, 0, "two words")
    assert (impression.filter, impression.context) == (b"filter", CONTEXT)
    assert (impression.generation, impression.reranker, impression.configuration) == (
        "g",
        "m",
        "00000000000000ab",
    )
    assert (impression.tuned, impression.degraded) == ("faq/1", ("dense:timeout",))
    assert impression.depth == 2


def test_hits_are_logged_in_the_order_and_version_that_was_given_out() -> None:
    impression, _ = logged(given(FairPairs(), offset=1))
    assert [(hit.document_id, hit.rank, hit.version) for hit in impression.shown] == [
        ("d0", 2, 7), ("d2", 3, 7), ("d3", 4, 7)
    ]  # fmt: skip
    assert [hit.content for hit in impression.shown] == ["hash of 0 7", "hash of 2 7", "hash of 3 7"]
    assert [hit.rerank_score for hit in impression.shown] == [0.0, None, None]
    assert impression.shown[0].arms == {"bm25": (1, 9.0)}


@pytest.mark.parametrize("offset", [0, 1])
def test_an_explored_hit_says_where_it_was_before_and_how_likely_it_came_there(offset: int) -> None:
    impression, _ = logged(given(PAIRS, offset, size=5))
    order = [*PAIRS.draw_order(compute_seed(SEARCH), COUNT), 4, 5]
    assert order == [1, 0, 3, 2, 4, 5], "the seed of this search swaps both pairs"
    assert (impression.policy, impression.seed) == ("fair-pairs:0.5:4", compute_seed(SEARCH))
    for place, hit in enumerate(impression.shown, start=offset):
        assert (hit.rank, hit.rank_before) == (place + 1, order[place] + 1)
        assert hit.rank_probability == PAIRS.compute_probability(order[place], place, COUNT)


def test_without_exploration_each_hit_stands_where_it_must() -> None:
    impression, _ = logged(given(FairPairs()))
    assert (impression.policy, impression.seed) == ("none", 0)
    assert [(hit.rank_before, hit.rank_probability) for hit in impression.shown] == [
        (1, 1.0),
        (2, 1.0),
        (3, 1.0),
    ]


def pool_of(page: GivenPage, depth: int, rate: float = 1.0) -> Sequence[str]:
    return [hit.document_id for hit in logged(page, PoolPolicy(depth, rate))[0].pool]


@pytest.mark.parametrize("exploration", [FairPairs(), PAIRS])
def test_the_pool_is_the_best_of_the_fused_order_whatever_moved_them_since(exploration: FairPairs) -> None:
    page = given(exploration)
    assert pool_of(page, 4) == ["d0", "d1", "d2", "d3"]
    assert pool_of(page, 3) == ["d0", "d1", "d2"], "exploration may have put the fourth before the third"
    assert pool_of(page, 1) == ["d0"], "the re-ranker has put it second"


def test_the_pool_is_logged_with_the_first_page_of_the_searches_that_are_sampled() -> None:
    assert pool_of(given(FairPairs(), offset=1), 4) == []
    assert pool_of(given(FairPairs()), 4, rate=0.0) == []
    assert logged(given(FairPairs()), PoolPolicy(4, 0.25))[0].pool_rate == 0.25


def test_texts_are_wanted_of_what_was_shown_and_of_the_pool() -> None:
    buffer = Buffer()
    AnswerLog(buffer, SIGNER, PoolPolicy(2)).log(given(FairPairs()))
    assert list(buffer.pages[0].made.read_versions()) == [(1, 7), (0, 7), (2, 7), (0, 1), (1, 1)]
    assert buffer.pages[0].source.text({"title": "T", "text": "words"}) == "T\nwords"


def test_the_token_names_the_page_and_its_documents() -> None:
    page = given(FairPairs(), offset=1)
    said = SIGNER.read(logged(page)[1])
    assert (said.search_id, said.offset, said.collection) == (SEARCH, 1, 9)
    assert (said.configuration, said.digest) == ("00000000000000ab", compute_page_digest(["d0", "d2", "d3"]))
    other = replace(page, shown=page.shown[::-1])
    assert SIGNER.read(logged(other)[1]).digest != said.digest


def test_all_models_of_a_cascade_are_logged_and_a_single_one_only_once() -> None:
    page = given(FairPairs())
    cascade = replace(page, ranking=replace(page.ranking, rerankers=("fast", "m")))
    impression, _ = logged(cascade)
    assert (impression.cascade, impression.reranker) == (("fast", "m"), "m")
    assert [hit.cascade_scores for hit in impression.shown] == [(None, 1.0), (None, 0.0), (None, None)]
    assert logged(page)[0].cascade == ()
