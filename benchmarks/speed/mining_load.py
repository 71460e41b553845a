"""What mining costs searches: the p95 of a search beside a mining job, over that on an idle server.

One client asks one search after another, in stretches: idle, then beside a job of the default preset over the
same collection, in turns, so that what else the machine does hits both.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from serving import (
    COLLECTION,
    KEPT,
    SEARCH,
    Load,
    Server,
    available,
    corpus,
    create_collection,
    documents_of,
    load,
    load_average,
    queries,
    search_request,
    server,
)

from quarry.v1 import mining_service_pb2 as pb
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub

NEGATIVES = 7
STRETCH = 60
"""Searches that are sent before the job is asked how it is."""


def p95_ms(seconds: list[float]) -> float:
    return 1e3 * sorted(seconds)[int(0.95 * (len(seconds) - 1))]


def judged(texts: list[str], ids: list[str]) -> list[pb.JudgedQuery]:
    """Any document is as good as another: what mining costs does not depend on it."""
    return [
        pb.JudgedQuery(query_id=str(n), text=text, judgments=[pb.Judgment(document_id=id, grade=1)])
        for n, (text, id) in enumerate(zip(texts, ids, strict=False))
    ]


def stretch(sender: Load, running: Server, texts: list[str]) -> list[float]:
    return sender.send(running.address, SEARCH, [search_request(text) for text in texts], 1)


def beside_mining(
    sender: Load,
    running: Server,
    channel: grpc.Channel,
    request: pb.MineHardNegativesRequest,
    texts: list[str],
) -> tuple[list[float], float]:
    """Seconds of each search sent while the job ran, and of the job."""
    operations = operations_pb2_grpc.OperationsStub(channel)
    began = time.perf_counter()
    operation = MiningServiceStub(channel).MineHardNegatives(request)
    found: list[float] = []
    at = 0
    while True:
        some = stretch(sender, running, [texts[(at + n) % len(texts)] for n in range(STRETCH)])
        at += STRETCH
        operation = operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name))
        if operation.done:
            break
        found += some
    assert not operation.HasField("error"), operation.error
    return found, time.perf_counter() - began


def measure(running: Server, texts: list[str], ids: list[str], rounds: int) -> dict[str, float]:
    idle: list[list[float]] = []
    loaded: list[list[float]] = []
    jobs_s: list[float] = []
    asked = judged(texts, ids)
    with load() as sender, running.channel() as channel:
        stretch(sender, running, texts[:STRETCH])
        for number in range(rounds):
            request = pb.MineHardNegativesRequest(
                collection=COLLECTION, queries=asked, negatives=NEGATIVES, seed=number
            )
            idle.append(stretch(sender, running, texts[: 5 * STRETCH]))
            some, job_s = beside_mining(sender, running, channel, request, texts)
            loaded.append(some)
            jobs_s.append(job_s)
    return {
        "idle_p95_ms": median(map(p95_ms, idle)),
        "mining_p95_ms": median(map(p95_ms, loaded)),
        "ratio": median(p95_ms(b) / p95_ms(a) for a, b in zip(idle, loaded, strict=True)),
        "p50_ratio": median(median(b) / median(a) for a, b in zip(idle, loaded, strict=True)),
        "searches_beside_mining": sum(map(len, loaded)),
        "job_s": median(jobs_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name = available(arguments.collection)
    records = corpus(name, arguments.documents)
    kept = KEPT / f"vectors-{name}.db"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        if kept.exists():
            shutil.copyfile(kept, data / "vectors.db")
        with server(data) as running:
            with running.channel() as channel:
                create_collection(channel)
            documents = documents_of(records)
            with load() as writer:
                writer.write(running.address, documents)
            time.sleep(2)  # the dense store flushes a second after the last write
            ids = [document.id for document in documents]
            found = measure(running, queries(name, arguments.seed), ids, arguments.rounds)
    figures = {key: round(value, 3) for key, value in found.items()}
    line = {"benchmark": "mining_load", "collection": name, "documents": len(records), **figures}
    print(json.dumps({**line, "load_per_core": load_average()}))


if __name__ == "__main__":
    main()
