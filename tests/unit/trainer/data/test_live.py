"""What is asked of the live server, over a real channel to a server that answers as told."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from quarry.client import Client
from quarry.errors import FailedPreconditionError, UnavailableError
from quarry.jobs.child import CHANNEL_OPTIONS
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import search_service_pb2_grpc
from quarry_trainer.data.live import LiveSearch

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class TwoAPage(search_service_pb2_grpc.SearchServiceServicer):
    """Finds five documents for every query, gives two a page, and compares vectors of the even ones."""

    def __init__(self) -> None:
        self.failures: list[grpc.StatusCode] = []
        self.asked: list[pb.SearchRequest] = []
        self.highest_fused = 0.0
        self.merged = 5

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        if self.failures:
            context.abort(self.failures.pop(0), "not now")
        self.asked.append(request)
        start = int(request.page_token or 0)
        token = str(start + 2) if start + 2 < 5 else ""
        response = pb.SearchResponse(next_page_token=token, highest_fused=self.highest_fused)
        for place in range(start, min(start + 2, 5)):
            basis = pb.SCORE_BASIS_FUSED if place < self.merged else pb.SCORE_BASIS_BM25
            hit = response.hits.add(rank=place + 1, scored_by=basis)
            hit.document.id = f"{request.query.strip()}-{place}"
            hit.explanation.fused_score = 1 - 0.1 * place
            hit.explanation.passage = f"passage {place}" if place % 2 == 0 else ""
            hit.explanation.arms.add(arm="bm25", rank=place + 1)
            hit.explanation.arms.add(arm="dense", rank=3 * (place % 2))
        return response


@pytest.fixture
def server() -> Iterator[tuple[TwoAPage, Client]]:
    servicer = TwoAPage()
    served = grpc.server(ThreadPoolExecutor(4))
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(servicer, served)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    with Client(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as client:
        yield servicer, client
    served.stop(None).wait()


def matching_passages(query: str, ids: Sequence[str]) -> dict[str, str]:
    return {id: f"first of {id}" for id in ids if not id.endswith("-3")}


def live(client: Client, pauses: list[float] | None = None) -> LiveSearch:
    return LiveSearch(client, "faq", matching_passages, [].append if pauses is None else pauses.append)


def test_candidates_come_in_fused_order_with_what_a_re_ranker_reads(
    server: tuple[TwoAPage, Client],
) -> None:
    servicer, client = server
    done: list[tuple[int, int]] = []
    queries = {str(n): f" x{n} " for n in range(10)}
    ranked = live(client).rank(queries, 50, lambda n, of: done.append((n, of)))
    assert [one.query_id for one in ranked] == list(queries)
    assert done == [(n, 10) for n in range(1, 11)]
    seventh = ranked[7]
    assert seventh.text == "x7"
    assert seventh.documents == tuple(f"x7-{place}" for place in range(5))
    assert seventh.fused.tolist() == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    assert seventh.passages == ("passage 0", "first of x7-1", "passage 2", "", "passage 4")
    assert seventh.arms == (("bm25",), ("bm25", "dense"), ("bm25",), ("bm25", "dense"), ("bm25",))
    for request in servicer.asked:
        assert request.collection == "faq"
        assert request.unlogged
        assert request.explain
        assert request.require_complete
        assert request.rerank.disabled
        assert request.page_size == 50


def test_fused_scores_are_shares_of_what_the_method_can_give(server: tuple[TwoAPage, Client]) -> None:
    """As a re-ranker that serves gets them; reciprocal ranks by themselves are some hundredths."""
    servicer, client = server
    servicer.highest_fused = 2.0
    (one,) = live(client).rank({"q": "x"})
    assert one.fused.tolist() == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3])


def test_no_more_than_the_depth_is_taken(server: tuple[TwoAPage, Client]) -> None:
    servicer, client = server
    (one,) = live(client).rank({"q": "x"}, depth=3)
    assert one.documents == ("x-0", "x-1", "x-2")
    assert len(servicer.asked) == 2


def test_what_was_not_merged_is_no_candidate(server: tuple[TwoAPage, Client]) -> None:
    """BM25 found it below its depth, and no other arm scored it: a re-ranker never reads it."""
    servicer, client = server
    servicer.merged = 3
    (one,) = live(client).rank({"q": "x"})
    assert one.documents == ("x-0", "x-1", "x-2")
    assert len(servicer.asked) == 2, "what follows is not asked for"


def test_a_server_that_is_away_for_a_while_is_asked_again(server: tuple[TwoAPage, Client]) -> None:
    servicer, client = server
    servicer.failures = [UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED]
    pauses: list[float] = []
    (one,) = live(client, pauses).rank({"q": "x"})
    assert len(one) == 5
    assert pauses == [0.5, 1.0, 2.0]


def test_a_server_that_stays_away_is_an_error_with_a_type(server: tuple[TwoAPage, Client]) -> None:
    servicer, client = server
    servicer.failures = [UNAVAILABLE] * 100
    with pytest.raises(UnavailableError, match="not now"):
        live(client).rank({"q": "x", "r": "y"})


def test_what_the_server_refuses_is_not_asked_again(server: tuple[TwoAPage, Client]) -> None:
    servicer, client = server
    servicer.failures = [grpc.StatusCode.NOT_FOUND]
    with pytest.raises(FailedPreconditionError, match="not now"):
        live(client).rank({"q": "x"})
    assert not servicer.asked
