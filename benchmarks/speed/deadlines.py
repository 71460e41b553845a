"""The share of searches that are answered in time: the dense arm being well, stopped, or busy with encoding.

``stopped``: the store process gets SIGSTOP before each deadline, and SIGCONT after it, so that the deadlines
are measured one by one; after a second and a half the server knows that the store hangs. ``long``: the store
runs, and each query has 230 words, so that encoding is what is late. ``words``: the same queries by BM25
alone, which is as much as can be asked for. Each client sends its next search when it has the answer to the
last one.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from serving import (
    COLLECTION,
    GRPC_OPTIONS,
    SAMPLE,
    Server,
    corpus,
    create_collection,
    documents_of,
    load,
    load_average,
    percentile,
    queries,
    server,
)

from quarry.v1 import search_service_pb2, search_service_pb2_grpc

DEADLINES_S = (0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 12.0)
LONG_QUERY_WORDS = 230


def store_pid(running: Server) -> int:
    for child in running.process.children(recursive=True):
        if "quarry.retrieval.edge.store_worker" in child.cmdline():
            return child.pid
    raise SystemExit("the server has no store process")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def long_queries(texts: Sequence[str]) -> list[str]:
    words = itertools.cycle(" ".join(texts).split())
    return [" ".join(itertools.islice(words, LONG_QUERY_WORDS)) for _ in texts]


async def search_all(
    address: str, texts: Sequence[str], arms: Sequence[str], clients: int, deadline_s: float
) -> dict[str, float]:
    outcomes: Counter[str] = Counter()
    times_s: list[float] = []
    waiting = iter(texts)
    async with grpc.aio.insecure_channel(address, options=GRPC_OPTIONS) as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)

        async def client() -> None:
            for text in waiting:
                request = search_service_pb2.SearchRequest(
                    collection=COLLECTION, query=text, arms=[{"name": arm} for arm in arms]
                )
                began = time.perf_counter()
                try:
                    answer = await stub.Search(request, timeout=deadline_s)
                except grpc.aio.AioRpcError as error:
                    outcomes[error.code().name] += 1
                else:
                    outcomes["degraded" if answer.degraded else "complete"] += 1
                times_s.append(time.perf_counter() - began)

        await asyncio.gather(*(client() for _ in range(clients)))
    answered = outcomes["degraded"] + outcomes["complete"]
    return {
        "answered": round(answered / len(texts), 4),
        **outcomes,
        "median_ms": round(1_000 * percentile(times_s, 0.5), 1),
    }


def measure(
    running: Server, kind: str, texts: list[str], clients: int, deadline_s: float
) -> dict[str, object]:
    if kind == "stopped":
        with stopped(store_pid(running)):
            found = asyncio.run(search_all(running.address, texts, (), clients, deadline_s))
    else:
        arms = ("bm25",) if kind == "words" else ()
        found = asyncio.run(search_all(running.address, texts, arms, clients, deadline_s))
    return {"benchmark": "deadlines", "kind": kind, "clients": clients, "deadline_s": deadline_s} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--searches", type=int, default=3, help="of each client and deadline")
    parser.add_argument("--kinds", nargs="+", default=["healthy", "stopped", "long"])
    parser.add_argument("--deadlines", type=float, nargs="+", default=DEADLINES_S)
    parser.add_argument("--documents", type=int, default=10_000)
    arguments = parser.parse_args()
    short = queries(SAMPLE.name, seed=1)
    texts = {"healthy": short, "stopped": short, "long": long_queries(short), "words": long_queries(short)}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running, load() as writer:
        with running.channel() as channel:
            create_collection(channel)
        writer.write(running.address, documents_of(corpus(SAMPLE.name, arguments.documents)))
        for kind, clients, deadline_s in itertools.product(
            arguments.kinds, arguments.clients, arguments.deadlines
        ):
            some = list(itertools.islice(itertools.cycle(texts[kind]), clients * arguments.searches))
            found = measure(running, kind, some, clients, deadline_s)
            print(json.dumps(found | {"load_average": load_average()}), flush=True)


if __name__ == "__main__":
    main()
