"""Recall of filtered nearest-neighbour search on Qdrant Edge against looking at every vector.

100,000 points of 384 dimensions in 1,000 clusters. Filters are independent of the vectors, or take whole
clusters, near the query's (``near``) or anywhere (``far``). One JSON line for each kind, selectivity and k;
times include the hop to the store's process, and ``ratio`` is to a numpy product over all vectors.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.filters import Filter, Range
from quarry.retrieval.base import VectorChange
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import GraphPolicy, StoreSettings
from quarry.schema import Field, FieldType
from quarry.types import Docno

DIMENSION, LATENT, CLUSTERS = 384, 48, 1_000
SHARES = (0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0)
DEPTHS = (10, 100)
QUERIES = 40
SCALE = 1_000_000
BATCH = 2_000

Vectors = NDArray[np.float32]


def unit(rows: NDArray[np.float64]) -> Vectors:
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / lengths).astype(np.float32)


class Data:
    """Seeded vectors whose intrinsic dimension is like that of sentence embeddings.

    Attributes:
        vectors: float32, shape ``(count, DIMENSION)``, unit length.
        queries: float32, shape ``(QUERIES, DIMENSION)``, unit length, near some cluster each.
        chance: uniform in [0, SCALE), independent of the vectors.
        place: uniform in [0, SCALE): the order of clusters along one direction.
    """

    def __init__(self, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        lift = random.normal(size=(LATENT, DIMENSION))
        centres = random.normal(size=(CLUSTERS, LATENT))
        cluster = random.integers(CLUSTERS, size=count)
        noise = 0.02 * random.normal(size=(count, DIMENSION)) * LATENT**0.5
        self.vectors = unit((centres[cluster] + 0.6 * random.normal(size=(count, LATENT))) @ lift + noise)
        asked = random.integers(CLUSTERS, size=QUERIES)
        self.queries = unit((centres[asked] + 0.6 * random.normal(size=(QUERIES, LATENT))) @ lift)
        order = np.argsort(centres[:, 0])
        rank = np.empty(CLUSTERS)
        rank[order] = np.arange(CLUSTERS) / CLUSTERS
        self.chance = random.integers(SCALE, size=count)
        self.place = ((rank[cluster] + random.random(count) / CLUSTERS) * SCALE).astype(np.int64)
        self.asked_place = (rank[asked] * SCALE).astype(np.int64)


def filters(data: Data, share: float, query: int) -> Iterator[tuple[str, Filter | None, NDArray[np.bool_]]]:
    """Kind, filter and which points pass."""
    width = int(share * SCALE)
    if share == 1.0:
        yield "none", None, np.ones(len(data.vectors), dtype=bool)
    yield "independent", Range("chance", lt=width), data.chance < width
    start = min(int(data.asked_place[query]), SCALE - width)
    yield (
        "near",
        Range("place", gte=start, lt=start + width),
        (data.place >= start) & (data.place < start + width),
    )
    start = (int(data.asked_place[query]) + SCALE // 2) % (SCALE - width + 1)
    yield (
        "far",
        Range("place", gte=start, lt=start + width),
        (data.place >= start) & (data.place < start + width),
    )


async def measure(store: EdgeDenseStore, data: Data, share: float, depth: int) -> None:
    recalls: dict[str, list[float]] = {}
    times_ms: dict[str, list[float]] = {}
    brute_ms: list[float] = []
    for query, vector in enumerate(data.queries):
        began = time.perf_counter()
        scores = data.vectors @ vector
        brute_ms.append(1e3 * (time.perf_counter() - began))
        for kind, filter, passes in filters(data, share, query):
            best = np.sort(scores[passes])[::-1][:depth]
            began = time.perf_counter()
            found = await store.find_nearest(vector, depth, filter)
            times_ms.setdefault(kind, []).append(1e3 * (time.perf_counter() - began))
            assert len(found) == len(best), "a filtered search came back short"
            assert all(passes[c.docno] for c in found), "a hit does not pass the filter"
            # by score, so that equal documents count as each other
            right = sum(scores[c.docno] >= best[-1] - 1e-6 for c in found)
            recalls.setdefault(kind, []).append(right / len(best) if len(best) else 1.0)
    for kind, values in recalls.items():
        report(kind, share, depth, values, times_ms[kind], brute_ms)


def report(
    kind: str,
    share: float,
    depth: int,
    recalls: Sequence[float],
    times_ms: Sequence[float],
    brute_ms: Sequence[float],
) -> None:
    line = {
        "benchmark": "filtered_recall",
        "filter": kind,
        "selectivity": share,
        "k": depth,
        "queries": len(recalls),
        "recall": round(float(np.mean(recalls)), 4),
        "lowest_recall": round(min(recalls), 4),
        "median_ms": round(float(np.median(times_ms)), 2),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 2),
        "ratio": round(float(np.median(times_ms) / np.median(brute_ms)), 2),
    }
    print(json.dumps(line), flush=True)


async def fill(store: EdgeDenseStore, data: Data) -> float:
    began = time.perf_counter()
    for start in range(0, len(data.vectors), BATCH):
        changes = [
            VectorChange(
                Docno(n),
                n + 1,
                data.vectors[n : n + 1],
                {"chance": int(data.chance[n]), "place": int(data.place[n])},
            )
            for n in range(start, min(start + BATCH, len(data.vectors)))
        ]
        await store.apply(changes, start + len(changes))
        await store.flush()
    return time.perf_counter() - began


async def waits_ms(store: EdgeDenseStore, data: Data, running: Callable[[], bool]) -> list[float]:
    """How long searches take, one after another, while something else is running."""
    waits: list[float] = []
    while running():
        began = time.perf_counter()
        await store.find_nearest(data.queries[len(waits) % QUERIES], 10, None)
        waits.append(1e3 * (time.perf_counter() - began))
        await asyncio.sleep(0.01)
    return waits


async def beside_searches(name: str, store: EdgeDenseStore, data: Data, work: asyncio.Task[object]) -> None:
    began = time.perf_counter()
    waits = await waits_ms(store, data, lambda: not work.done())
    await work
    line = {
        "benchmark": f"search_during_{name}",
        "seconds": round(time.perf_counter() - began, 1),
        "points": len(data.vectors),
        "searches": len(waits),
        "median_ms": round(float(np.median(waits)), 2),
        "p99_ms": round(float(np.percentile(waits, 99)), 2),
        "longest_ms": round(max(waits), 2),
    }
    print(json.dumps(line), flush=True)


async def run(count: int, seed: int, folder: Path) -> None:
    data = Data(count, seed)
    fields = (Field("chance", FieldType.INTEGER), Field("place", FieldType.INTEGER))
    graph = GraphPolicy(min_pending=sys.maxsize)
    store = await EdgeDenseStore.open(StoreSettings(folder, "g", DIMENSION, fields, graph))
    seconds = await fill(store, data)
    print(
        json.dumps({"benchmark": "fill", "points": count, "points_per_s": round(count / seconds)}), flush=True
    )
    print(json.dumps({"graph": False}), flush=True)
    for depth in DEPTHS:
        await measure(store, data, 1.0, depth)
    await beside_searches("optimize", store, data, asyncio.create_task(store.optimize()))
    print(json.dumps({"graph": True}), flush=True)
    for share in SHARES:
        for depth in DEPTHS:
            await measure(store, data, share, depth)
    await beside_searches("writes", store, data, asyncio.create_task(fill(store, data)))
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(arguments.points, arguments.seed, Path(folder)))


if __name__ == "__main__":
    main()
