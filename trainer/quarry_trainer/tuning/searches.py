"""Asks the live server for the orders that people would see, re-ranking and all, and leaves no trace."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from quarry.errors import FailedPreconditionError
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.training.spec import TuningSpec
from quarry.v1 import search_service_pb2 as pb
from quarry_trainer.data.live import DEPTH, THREADS
from quarry_trainer.loop.calls import ServerCalls
from quarry_trainer.measures import Orders

Counted = Callable[[int, int], None]


class Searches:
    """Searches of one collection, in full or not at all."""

    def __init__(self, server: ServerCalls, spec: TuningSpec) -> None:
        self._server, self._spec = server, spec

    def order_as_served(self, queries: Mapping[str, str], counted: Counted) -> Orders:
        """Orders as people get them now.

        Raises FailedPreconditionError if something else serves than when the tuning was asked for.
        """

        def ask(text: str) -> tuple[str, ...]:
            answer = self._search(self._make_request(text))
            if answer.ranking != self._spec.serving:
                raise FailedPreconditionError(
                    "another ranking configuration serves since the tuning began: tune again",
                    collection=self._spec.collection,
                )
            return _read_order(answer)

        return self._order_all(queries, ask, counted)

    def order_by_choice(
        self, chosen: Mapping[str, RankingConfiguration], queries: Mapping[str, str], counted: Counted
    ) -> Orders:
        """Orders as people would get them if each query were merged by what was ``chosen`` for it."""

        def ask(id: str) -> tuple[str, ...]:
            request = self._make_request(queries[id])
            state_configuration(request, chosen[id], self._spec.arms)
            return _read_order(self._search(request))

        return self._order_all({id: id for id in queries}, ask, counted)

    def _order_all(
        self, queries: Mapping[str, str], ask: Callable[[str], tuple[str, ...]], counted: Counted
    ) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        with ThreadPoolExecutor(THREADS, thread_name_prefix="search") as pool:
            for id, order in zip(queries, pool.map(ask, queries.values()), strict=True):
                found[id] = order
                counted(len(found), len(queries))
        return found

    def _make_request(self, text: str) -> pb.SearchRequest:
        return pb.SearchRequest(
            collection=self._spec.collection,
            query=text,
            page_size=DEPTH,
            require_complete=True,
            return_fields=["-"],
            unlogged=True,
        )

    def _search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        answer = self._server.ask(self._server.search.Search, request)
        own = self._spec.reranker
        if answer.hits and (own not in answer.rerankers if own else bool(answer.rerankers)):
            raise FailedPreconditionError(
                "another re-ranker serves since the tuning was asked for: tune again",
                collection=self._spec.collection,
            )
        return answer


def state_configuration(
    request: pb.SearchRequest, configuration: RankingConfiguration, arms: tuple[str, ...]
) -> None:
    """Makes a request say what a ranking configuration says."""
    for plan in configuration.plan_arms(arms):
        arm = request.arms.add(name=plan.name, depth=plan.depth, weight=plan.weight)
        if plan.boost_scale != 1:
            arm.boost_scale = plan.boost_scale
    if configuration.fusion == "rrf":
        request.fusion.rrf.SetInParent()
        return
    request.fusion.weighted_sum.SetInParent()
    for name, trait in configuration.by_query.items():
        request.fusion.weighted_sum.by_query.add(
            name=name, slope=trait.slope, mean=trait.mean, deviation=trait.deviation
        )


def _read_order(answer: pb.SearchResponse) -> tuple[str, ...]:
    return tuple(hit.document.id for hit in answer.hits)
