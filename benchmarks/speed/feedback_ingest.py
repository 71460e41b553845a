"""Events taken by a server, against bare sqlite3 with the same syncs; and what logging costs a search.

Events come from another process: in batches of 100, and as single calls of 64 clients. The baseline is
`executemany` into the same table on the same disk, one synced commit for a batch, and for 64 single events.
Searches are sent in turns with and without logging, one client, no query twice in a row.
"""

import argparse
import json
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import median

from serving import (
    COLLECTION,
    KEPT,
    SEARCH,
    Server,
    available,
    corpus,
    create_collection,
    documents_of,
    load,
    load_average,
    percentile,
    queries,
    server,
)

from quarry.feedback.rows import EVENT_COLUMNS, make_event_row
from quarry.feedback.tables import open_feedback
from quarry.feedback.types import Event, EventType
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1 import search_service_pb2
from quarry.v1.search_service_pb2_grpc import SearchServiceStub

RECORD = "/quarry.v1.FeedbackService/RecordEvents"
BATCH = 100
BATCH_CLIENTS = 4
SINGLE_CLIENTS = 64
BLOCK = 20


def requests(token: str, document: str, count: int, batch: int, name: str) -> list[bytes]:
    """So many click events in requests of ``batch``."""

    def event(number: int) -> pb.Event:
        return pb.Event(
            event_id=f"{name}-{number}",
            type=pb.EVENT_TYPE_CLICK,
            attribution_token=token,
            document_id=document,
        )

    return [
        pb.RecordEventsRequest(
            collection=COLLECTION, events=[event(n) for n in range(start, start + batch)]
        ).SerializeToString()
        for start in range(0, count, batch)
    ]


def bare_per_s(folder: Path, count: int, batch: int) -> float:
    """Events a second of bare sqlite3, one synced commit for each ``batch``."""
    path = folder / f"bare-{time.monotonic_ns()}.db"
    open_feedback(path).dispose()
    events = [
        Event(f"e{n}", EventType.CLICK, "5b0e6a8b1c2d4e5f90a1b2c3d4e5f607", 0, 1, 1, f"d{n}")
        for n in range(count)
    ]
    rows = [make_event_row(1, event) for event in events]
    insert = f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES ({', '.join('?' * len(EVENT_COLUMNS))})"  # noqa: S608
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}").close()
    began = time.perf_counter()
    for start in range(0, count, batch):
        database.execute("BEGIN IMMEDIATE")
        database.executemany(insert, rows[start : start + batch])
        database.execute("COMMIT")
    seconds = time.perf_counter() - began
    database.close()
    return count / seconds


def ingest(running: Server, folder: Path, count: int, rounds: int) -> dict[str, dict[str, float]]:
    with running.channel() as channel:
        request = search_service_pb2.SearchRequest(collection=COLLECTION, query="a")
        answer = SearchServiceStub(channel).Search(request)
    token, document = answer.attribution_token, answer.hits[0].document.id
    found: dict[str, dict[str, float]] = {}
    shapes = {"batches_of_100": (BATCH, BATCH_CLIENTS, BATCH), "single_calls": (1, SINGLE_CLIENTS, 64)}
    with load() as sender:
        for shape, (batch, clients, synced) in shapes.items():
            served, bare, ratios, times_s = [], [], [], []
            events = count if batch > 1 else count // 4
            for number in range(rounds):
                bare.append(bare_per_s(folder, events, synced))
                sent = requests(token, document, events, batch, f"{shape}-{number}")
                began = time.perf_counter()
                times_s += sender.send(running.address, RECORD, sent, clients)
                served.append(events / (time.perf_counter() - began))
                ratios.append(served[-1] / bare[-1])
            found[shape] = {
                "events_per_s": median(served),
                "bare_sqlite_per_s": median(bare),
                "ratio": median(ratios),
                "p50_ms": 1e3 * median(times_s),
                "p99_ms": 1e3 * percentile(times_s, 0.99),
            }
    return found


def logging_cost(running: Server, texts: list[str], rounds: int) -> dict[str, float]:
    def message(text: str, unlogged: bool) -> bytes:
        request = search_service_pb2.SearchRequest(collection=COLLECTION, query=text, unlogged=unlogged)
        request.rerank.disabled = True
        return request.SerializeToString()

    times_s: dict[bool, list[float]] = {True: [], False: []}
    ratios: list[float] = []
    with load() as sender:
        sender.send(running.address, SEARCH, [message(text, True) for text in texts[:100]], 1)
        for turn in range(rounds):
            round_s: dict[bool, list[float]] = {True: [], False: []}
            for start in range(0, len(texts) - BLOCK + 1, BLOCK):
                block = texts[start : start + BLOCK]
                for unlogged in (True, False) if (start // BLOCK + turn) % 2 else (False, True):
                    sent = [message(text, unlogged) for text in block]
                    round_s[unlogged] += sender.send(running.address, SEARCH, sent, 1)
            for unlogged, some in round_s.items():
                times_s[unlogged] += some
            ratios.append(median(round_s[False]) / median(round_s[True]))
    return {
        "searches": len(times_s[False]),
        "logged_p50_ms": 1e3 * median(times_s[False]),
        "unlogged_p50_ms": 1e3 * median(times_s[True]),
        "logged_p95_ms": 1e3 * percentile(times_s[False], 0.95),
        "unlogged_p95_ms": 1e3 * percentile(times_s[True], 0.95),
        "ratio": median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name = available(arguments.collection)
    kept = KEPT / f"vectors-{name}.db"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        if kept.exists():
            shutil.copyfile(kept, data / "vectors.db")
        with server(data) as running:
            with running.channel() as channel:
                create_collection(channel)
            with load() as writer:
                writer.write(running.address, documents_of(corpus(name, arguments.documents)))
            time.sleep(2)  # the dense store flushes a second after the last write
            cost = logging_cost(running, queries(name, arguments.seed)[:300], arguments.rounds)
            found = ingest(running, Path(folder), arguments.events, arguments.rounds)
    figures: dict[str, dict[str, float]] = {**found, "search_logging": cost}
    for part, values in figures.items():
        rounded = {key: round(value, 3) for key, value in values.items()}
        print(
            json.dumps(
                {"benchmark": "feedback_ingest", "part": part, **rounded, "load_per_core": load_average()}
            )
        )


if __name__ == "__main__":
    main()
