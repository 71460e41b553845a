"""Runs of a collection: what each arm, their fusion and the re-ranker answer to many queries."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import Progress

from quarry.client import Client
from quarry.v1 import search_service_pb2
from quarry_cli.failures import CliError
from quarry_cli.inputs.run_file import Ranked

T = TypeVar("T")
U = TypeVar("U")

DEPTH = 100
RETRIEVE_QUERIES = 32
CONCURRENT_CALLS = 4


@contextmanager
def open_workers() -> Iterator[ThreadPoolExecutor]:
    """Yields threads for concurrent calls; an error or an interrupt drops the calls not yet begun."""
    pool = ThreadPoolExecutor(CONCURRENT_CALLS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def retrieve_runs(
    quarry: Client, collection: str, queries: Mapping[str, str], bar: Progress
) -> dict[str, Ranked]:
    """Retrieves the run of each arm that the collection has, 100 deep.

    Raises:
        CliError: an arm failed for a query, or does not hold all documents yet.
    """
    task = bar.add_task("arms", total=len(queries))
    runs: dict[str, Ranked] = {}
    items = list(queries.items())
    for start in range(0, len(items), RETRIEVE_QUERIES):
        batch = [
            search_service_pb2.RetrieveQuery(id=i, text=t) for i, t in items[start : start + RETRIEVE_QUERIES]
        ]
        request = search_service_pb2.RetrieveRequest(collection=collection, queries=batch)
        answer = quarry.search.Retrieve(request)
        for lacking in answer.degraded:
            raise CliError(
                lacking.detail, f"figures would be too low; see `quarry collection show {collection}`"
            )
        for result in answer.results:
            for arm in result.arms:
                if arm.status.code:
                    raise CliError(
                        f"the {arm.arm} arm failed for query {result.query_id}: {arm.status.message}"
                    )
                runs.setdefault(arm.arm, {})[result.query_id] = [c.document_id for c in arm.candidates]
        bar.advance(task, len(batch))
    return runs


Hits = dict[str, list[search_service_pb2.Hit]]
"""Hits without fields by query id, best first."""


def search_queries(
    quarry: Client,
    collection: str,
    queries: Mapping[str, str],
    bar: Progress,
    *,
    rerank: search_service_pb2.Rerank,
) -> Hits:
    """Searches for whole runs, 100 deep, in fused or in re-ranked order; all complete or an error."""
    task = bar.add_task("fused" if rerank.disabled else "re-ranked", total=len(queries))

    def search(text: str) -> list[search_service_pb2.Hit]:
        request = search_service_pb2.SearchRequest(
            collection=collection,
            query=text,
            page_size=DEPTH,
            rerank=rerank,
            require_complete=True,
            return_fields=["-"],
            unlogged=True,  # nobody has seen it
        )
        answer = quarry.search.Search(request)
        bar.advance(task)
        return list(answer.hits)

    return dict(zip(queries, call_concurrently(search, queries.values()), strict=True))


def rank_hits(hits: Hits) -> Ranked:
    return {query: [hit.document.id for hit in some] for query, some in hits.items()}


def call_concurrently(call: Callable[[T], U], arguments: Iterable[T]) -> list[U]:
    """Makes the calls side by side, and returns their results in order."""
    with open_workers() as pool:
        futures: list[Future[U]] = [pool.submit(call, argument) for argument in arguments]
        return [future.result() for future in futures]
