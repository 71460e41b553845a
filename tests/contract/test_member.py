"""Every member of a mining ensemble keeps the contract: the live first stage, its arms, vectors, LSA."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tests.unit.miner.small import space_of

from quarry.client import Client
from quarry.documents.catalog import PassagePolicy
from quarry.documents.vector_cache import VectorCache
from quarry.errors import FailedPreconditionError, RetrieverUnavailableError
from quarry.jobs.child import CHANNEL_OPTIONS
from quarry.models.encoder import load_encoder
from quarry.testing import make_tiny_encoder
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import search_service_pb2_grpc
from quarry_miner.members.ensemble import build_ensemble
from quarry_miner.members.live_arm import LiveArm
from quarry_miner.members.live_pool import LivePool
from quarry_miner.members.lsa import fit_lsa
from quarry_miner.members.members import NO_DOCUMENT, Member, VectorMember
from quarry_miner.members.spaces import VectorSpace, build_encoder_space
from quarry_miner.testing import CORPUS, QUERIES, MemberContract

PAGE, RERANKED = 7, 30
"""Hits of a page, at most: a real one is cut short where its texts are too long for a message. And how many a
re-ranker reads, which turns them round."""


class FakeSearch(search_service_pb2_grpc.SearchServiceServicer):
    """Answers from a member of this process, after failing so often; the corpus lacks one document."""

    def __init__(self, member: Member, failures: list[grpc.StatusCode]) -> None:
        self._member, self._failures = member, failures
        self.requests: list[pb.RetrieveRequest] = []
        self.searches: list[pb.SearchRequest] = []
        self.relevance: dict[str, float] = {}
        self.merged = 1_000

    def Retrieve(self, request: pb.RetrieveRequest, context: grpc.ServicerContext) -> pb.RetrieveResponse:
        if self._failures:
            context.abort(self._failures.pop(), "not now")
        self.requests.append(request)
        (arm,) = request.arms
        response = pb.RetrieveResponse()
        found = self._member.search([query.text for query in request.queries], arm.depth)
        for documents, scores in zip(found.documents, found.scores, strict=True):
            candidates = response.results.add().arms.add(arm=arm.name).candidates
            for rank, (number, score) in enumerate(zip(documents, scores, strict=True), 1):
                if number != NO_DOCUMENT:
                    id = "written later" if number == 11 else CORPUS.ids[number]
                    candidates.add(document_id=id, rank=rank, score=score)
        return response

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        """Pages of at most ``PAGE`` hits; a page token is the place of the first one."""
        if self._failures:
            context.abort(self._failures.pop(), "not now")
        self.searches.append(pb.SearchRequest.FromString(request.SerializeToString()))
        found = self._member.search([request.query], 60)
        listed = [
            (number, score, rank)
            for rank, (number, score) in enumerate(
                zip(found.documents[0].tolist(), found.scores[0].tolist(), strict=True), 1
            )
            if number != NO_DOCUMENT
        ]
        if not request.rerank.disabled:
            listed = [*reversed(listed[:RERANKED]), *listed[RERANKED:]]
        start = int(request.page_token or 0)
        end = start + min(PAGE, request.page_size)
        response = pb.SearchResponse(next_page_token=str(end) if end < len(listed) else "")
        for number, score, rank in listed[start:end]:
            hit = response.hits.add()
            hit.document.id = "written later" if number == 11 else CORPUS.ids[number]
            hit.explanation.fused_score, hit.explanation.fused_rank = score, rank
            hit.scored_by = pb.SCORE_BASIS_FUSED if rank <= self.merged else pb.SCORE_BASIS_BM25
            if not request.rerank.disabled and hit.document.id in self.relevance:
                hit.relevance = self.relevance[hit.document.id]
        return response


@pytest.fixture
def live() -> Iterator[Callable[..., tuple[LiveArm, FakeSearch, list[float]]]]:
    """Makes a live arm, the server that it asks, and the pauses that it has made."""
    with served() as make:

        def arm(*failures: grpc.StatusCode) -> tuple[LiveArm, FakeSearch, list[float]]:
            client, search = make(*failures)
            pauses: list[float] = []
            return LiveArm("dense", CORPUS, client, "docs", pauses.append), search, pauses

        yield arm


@pytest.fixture
def pool() -> Iterator[Callable[..., tuple[LivePool, FakeSearch, list[float]]]]:
    """The same with the live first stage."""
    with served() as make:

        def first_stage(
            *failures: grpc.StatusCode, judged: bool = False
        ) -> tuple[LivePool, FakeSearch, list[float]]:
            client, search = make(*failures)
            pauses: list[float] = []
            return LivePool(CORPUS, client, "docs", pauses.append, judged), search, pauses

        yield first_stage


@contextmanager
def served() -> Iterator[Callable[..., tuple[Client, FakeSearch]]]:
    servers: list[grpc.Server] = []
    clients: list[Client] = []

    def make(*failures: grpc.StatusCode) -> tuple[Client, FakeSearch]:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        search = FakeSearch(VectorMember(space_of(CORPUS)), list(failures))
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(search, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        clients.append(Client(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS))
        servers.append(server)
        return clients[-1], search

    yield make
    for client in clients:
        client.close()
    for server in servers:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorSpace]:
    """What a tiny encoder makes of the corpus."""
    folder = tmp_path_factory.mktemp("encoder")
    encoder = load_encoder(str(make_tiny_encoder(folder / "tiny", seed=0)), folder)
    cache = VectorCache(folder / "vectors.db")
    yield build_encoder_space("encoder:tiny", CORPUS, encoder, PassagePolicy(), cache)
    cache.close()


class TestMembers(MemberContract):
    @pytest.fixture(params=["exact", "encoder", "lsa", "ensemble"])
    def member(self, request: pytest.FixtureRequest) -> Member:
        match request.param:
            case "exact":
                return VectorMember(space_of(CORPUS))
            case "encoder":
                return VectorMember(request.getfixturevalue("encoded"))
            case "lsa":
                return VectorMember(fit_lsa(CORPUS, seed=0, dimensions=16))
            case _:
                parts = [space_of(CORPUS), fit_lsa(CORPUS, seed=0, dimensions=16)]
                return VectorMember(build_ensemble(parts)[0])


class TestLiveMembers(MemberContract):
    leaves_room = True

    @pytest.fixture(params=["live", "pool"])
    def member(
        self,
        request: pytest.FixtureRequest,
        live: Callable[..., tuple[Member, ...]],
        pool: Callable[..., tuple[Member, ...]],
    ) -> Member:
        return {"live": live, "pool": pool}[request.param]()[0]


def test_a_live_arm_is_asked_for_many_queries_at_once_and_for_the_depth(
    live: Callable[..., tuple[LiveArm, FakeSearch, list[float]]],
) -> None:
    arm, search, _ = live()
    listed = arm.search(QUERIES * 60, 50)
    assert [len(request.queries) for request in search.requests] == [256, 256, 28]
    assert {request.arms[0].depth for request in search.requests} == {50}
    assert arm.unknown == 540  # document 11, once a query
    (note,) = arm.notes
    assert "540 candidates of the live arm were left out" in note
    assert 11 not in listed.documents


def test_a_live_arm_that_is_away_is_asked_again_after_longer_and_longer_pauses(
    live: Callable[..., tuple[LiveArm, FakeSearch, list[float]]],
) -> None:
    arm, _, pauses = live(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert arm.search(QUERIES[:1], 3).documents[0, 0] != NO_DOCUMENT
    assert pauses == [0.5, 1.0]


def test_a_live_arm_gives_up_in_the_end_and_at_once_where_trying_is_no_use(
    live: Callable[..., tuple[LiveArm, FakeSearch, list[float]]],
) -> None:
    arm, _, pauses = live(*[grpc.StatusCode.UNAVAILABLE] * 9)
    with pytest.raises(RetrieverUnavailableError, match="not now"):
        arm.search(QUERIES[:1], 3)
    assert len(pauses) == 5
    arm, _, pauses = live(grpc.StatusCode.NOT_FOUND)
    with pytest.raises(FailedPreconditionError, match="not now"):
        arm.search(QUERIES[:1], 3)
    assert not pauses


def test_the_live_first_stage_is_asked_without_a_trace_and_as_a_re_ranker_would_be_given_it(
    pool: Callable[..., tuple[LivePool, FakeSearch, list[float]]],
) -> None:
    member, search, _ = pool()
    listed = member.search(QUERIES[:2], 20)
    assert len(search.searches) == 2 * 3, "three pages of at most seven for each query"
    for request in search.searches:
        assert request.unlogged
        assert request.require_complete
        assert request.rerank.disabled
    assert 11 not in listed.documents


def test_what_the_first_stage_did_not_merge_is_not_listed(
    pool: Callable[..., tuple[LivePool, FakeSearch, list[float]]],
) -> None:
    """BM25 found it below its depth, and no other arm scored it."""
    member, search, _ = pool()
    whole = member.search(QUERIES[:1], 20).documents[0].tolist()
    search.searches.clear()
    search.merged = 9
    listed = [n for n in member.search(QUERIES[:1], 20).documents[0].tolist() if n != NO_DOCUMENT]
    assert 0 < len(listed) <= 9
    assert set(listed) < set(whole)
    assert len(search.searches) == 2, "what follows is not asked for"


def test_a_first_stage_that_is_away_is_asked_again_and_given_up_in_the_end(
    pool: Callable[..., tuple[LivePool, FakeSearch, list[float]]],
) -> None:
    member, _, pauses = pool(grpc.StatusCode.UNAVAILABLE)
    assert member.search(QUERIES[:1], 3).documents[0, 0] != NO_DOCUMENT
    assert pauses == [0.5]
    with pytest.raises(RetrieverUnavailableError, match="not now"):
        pool(*[grpc.StatusCode.UNAVAILABLE] * 9)[0].search(QUERIES[:1], 3)
    with pytest.raises(FailedPreconditionError, match="not now"):
        pool(grpc.StatusCode.NOT_FOUND)[0].search(QUERIES[:1], 3)


def test_a_calibrated_re_ranker_says_how_likely_an_answer_is_and_moves_nothing(
    pool: Callable[..., tuple[LivePool, FakeSearch, list[float]]],
) -> None:
    plain, _, _ = pool()
    judged, search, _ = pool(judged=True)
    search.relevance = {CORPUS.ids[number]: number / 100 for number in range(0, 40, 2)}
    without, found = plain.search(QUERIES[:2], 20), judged.search(QUERIES[:2], 20)
    assert found.documents.tolist() == without.documents.tolist()
    assert without.relevance is None
    assert found.relevance is not None
    for number, relevance in zip(found.documents[0].tolist(), found.relevance[0].tolist(), strict=True):
        known = number != NO_DOCUMENT and number % 2 == 0
        assert relevance == pytest.approx(number / 100) if known else np.isnan(relevance)
