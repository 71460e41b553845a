"""Gaps of the server's event loop while points are indexed and optimized, and what searches wait meanwhile.

The server runs in this process, so that its loop can be asked to wake up every two milliseconds; a gap is
how much later than that it did. The same is done on the loop of a process that has nothing to do: what that
misses is the machine's doing (``bare_gap_ms``). Encoding is switched off by a vector cache that has it all.
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import psutil
import uvloop
from serving import (
    SEARCH,
    Load,
    create_collection,
    load,
    load_average,
    percentile,
    reuse_models,
    search_request,
)
from synthetic import Synthetic

from quarry.config import Settings
from quarry_server.app import SWITCH_INTERVAL_S, run_server, spare_what_stays

TICK_S = 0.002
SEARCH_PAUSE_S = 0.02
QUIET_S = 5.0


class Ticks:
    """How much later than asked a loop wakes up, from ``start`` on."""

    def __init__(self) -> None:
        self.gaps_s: list[float] = []

    async def run(self) -> None:
        while True:
            asked = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self.gaps_s.append(time.perf_counter() - asked)

    def taken(self) -> list[float]:
        """The gaps since the last call."""
        gaps, self.gaps_s = self.gaps_s, []
        return gaps


def _bare_loop(connection: Connection) -> None:
    async def run() -> None:
        ticks = Ticks()
        task = asyncio.create_task(ticks.run())
        await asyncio.to_thread(connection.recv)
        task.cancel()
        connection.send(max(ticks.gaps_s))

    uvloop.run(run())


@contextmanager
def bare_loop() -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_bare_loop, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join(10)


async def building_ended() -> float:
    """Returns when no graph has been built for some seconds; seconds until the last one ended."""
    began = last = time.perf_counter()
    while time.perf_counter() - last < QUIET_S:
        children = await asyncio.to_thread(_children)
        if any("quarry.retrieval.edge.segment_optimizer" in command for command in children):
            last = time.perf_counter()
        await asyncio.sleep(0.25)
    return last - began


def _children() -> list[str]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            found.append(" ".join(child.cmdline()))
        except psutil.Error:
            continue
    return found


async def measure(data: Path, synthetic: Synthetic, writer: Load, searcher: Load) -> dict[str, float]:
    requests = [search_request(text) for text in synthetic.queries(2_000, seed=1)]
    ticks = Ticks()
    settings = Settings(data=data, port=0)
    async with run_server(settings) as server:
        await asyncio.to_thread(_create, server.address)
        documents = synthetic.documents()
        spare_what_stays()
        ticking = asyncio.create_task(ticks.run())
        with bare_loop() as bare:
            searcher.start(server.address, SEARCH, requests, SEARCH_PAUSE_S)
            writer.start_writing(server.address, documents)
            await asyncio.sleep(
                2 * TICK_S
            )  # what this process did to hand out the work is no gap of the server
            ticks.taken()
            write_s = await asyncio.to_thread(writer.note_write)
            writing = ticks.taken()
            writing_searches = await asyncio.to_thread(searcher.stop)
            await asyncio.to_thread(searcher.start, server.address, SEARCH, requests, SEARCH_PAUSE_S)
            build_s = await building_ended()
            building = ticks.taken()
            building_searches = await asyncio.to_thread(searcher.stop)
            bare.send("stop")
            bare_gap_s = await asyncio.to_thread(bare.recv)
        idle_searches = await asyncio.to_thread(searcher.send, server.address, SEARCH, requests[:500], 1)
        ticking.cancel()
    return {
        "gap_writing_ms": 1e3 * max(writing),
        "gap_building_ms": 1e3 * max(building),
        "gap_p999_ms": 1e3 * percentile([*writing, *building], 0.999),
        "bare_gap_ms": 1e3 * bare_gap_s,
        "write_s": write_s,
        "build_s": build_s,
        "search_p95_writing_ms": 1e3 * percentile(writing_searches, 0.95),
        "search_p95_building_ms": 1e3 * percentile(building_searches, 0.95),
        "search_p95_idle_ms": 1e3 * percentile(idle_searches, 0.95),
        "ratio": percentile([*writing_searches, *building_searches], 0.95) / percentile(idle_searches, 0.95),
    }


def _create(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        create_collection(channel)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    synthetic = Synthetic(arguments.points, arguments.seed)
    with tempfile.TemporaryDirectory() as folder, load() as writer, load() as searcher:
        data = Path(folder)
        reuse_models(data)
        synthetic.fill_cache(data)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        found = uvloop.run(measure(data, synthetic, writer, searcher))
    figures = {key: round(value, 2) for key, value in found.items()}
    line = {"benchmark": "loop_gaps", "points": arguments.points, **figures}
    print(json.dumps({**line, "load_per_core": load_average()}))


if __name__ == "__main__":
    main()
