"""Cost of overwriting what is deleted (``secure_delete``), as a multiple of what writes take without it.

Each round writes, replaces and deletes documents of 2,000 characters in a document log, and vectors of as
many documents in a vector cache, in new files: once with it and once without, in turns. Ratios are those of
the medians over all rounds, of wall times and of the processor's.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import sqlalchemy as sa

from quarry.documents import catalog, log
from quarry.documents.catalog import CollectionSettings
from quarry.documents.log import Upsert
from quarry.documents.passages import Cut
from quarry.documents.tables import open_database
from quarry.documents.vector_cache import KEY_BYTES, CachedVectors, VectorCache
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Docno

BATCH = 500
TEXT_CHARACTERS = 2_000
PASSAGES, DIMENSION = 3, 384
Steps = dict[str, list[Callable[[], object]]]


def make_log_steps(path: Path, is_secure: bool, count: int) -> Steps:
    """Makes the writes of a document log: one transaction for each batch."""
    engine = open_database(path)

    def prepare(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA secure_delete = {int(is_secure)}").close()

    sa.event.listen(engine, "connect", prepare)
    engine.dispose()
    writing = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
    with writing.begin() as connection:
        key = catalog.create_collection(connection, CollectionSettings("c", DEFAULT_SCHEMA, "none")).key
    draw = Random(0)
    letters = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz     ", k=100 * TEXT_CHARACTERS))

    def upsert(ids: list[str]) -> None:
        starts = draw.choices(range(len(letters) - TEXT_CHARACTERS), k=len(ids))
        upserts = [
            Upsert(id, {"text": letters[start : start + TEXT_CHARACTERS]})
            for id, start in zip(ids, starts, strict=True)
        ]
        with writing.begin() as connection:
            log.upsert_documents(connection, key, upserts)

    def delete(ids: list[str]) -> None:
        with writing.begin() as connection:
            log.delete_documents(connection, key, ids)

    batches = [[f"d{n}" for n in some] for some in split(count)]
    return {
        "write": [partial(upsert, ids) for ids in batches],
        "replace": [partial(upsert, ids) for ids in batches],
        "delete": [partial(delete, ids) for ids in batches],
    }


def make_cache_steps(path: Path, is_secure: bool, count: int) -> Steps:
    """Makes the writes of a vector cache."""
    cache = VectorCache(path)
    cache._file.run(lambda c: c.execute(f"PRAGMA secure_delete = {int(is_secure)}").fetchall(), [])
    draw = np.random.default_rng(0)
    cut = Cut(0, tuple((n, n + 1) for n in range(PASSAGES)))

    def write(generation: int, numbers: range) -> None:
        keys = {n: f"{generation}:{n}".encode().ljust(KEY_BYTES) for n in numbers}
        vectors = draw.standard_normal((len(numbers), PASSAGES, DIMENSION), dtype=np.float32)
        cache.note_uses("index", {Docno(n): key for n, key in keys.items()})
        cache.put_many(
            {key: CachedVectors(cut, one) for key, one in zip(keys.values(), vectors, strict=True)}
        )

    def delete(numbers: range) -> None:
        cache.note_uses("index", dict.fromkeys(map(Docno, numbers)))

    batches = list(split(count))
    return {
        "write": [partial(write, 0, some) for some in batches],
        "replace": [partial(write, 1, some) for some in batches],
        "delete": [partial(delete, some) for some in batches],
    }


def split(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times_s: dict[tuple[str, bool], list[tuple[float, float]]] = defaultdict(list)
    for number in range(arguments.rounds):
        for is_secure in (True, False) if number % 2 else (False, True):
            for step, took_s in run_round(is_secure, arguments.documents):
                times_s[step, is_secure].append(took_s)
    medians_s = {key: np.median(times, axis=0) for key, times in times_s.items()}
    figures = {
        step: [round(float(ratio), 2) for ratio in medians_s[step, True] / medians_s[step, False]]
        for step, is_secure in medians_s
        if is_secure
    }
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"benchmark": "secure_delete", "wall_and_cpu_ratio": figures, "load": load}))


def run_round(is_secure: bool, count: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yields the steps of one round with their wall time and processor time, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("documents.db", make_log_steps), ("vectors.db", make_cache_steps)):
            for step, calls in make(Path(folder) / name, is_secure, count).items():
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                for call in calls:
                    call()
                yield f"{name} {step}", (time.perf_counter() - wall_s, time.process_time() - cpu_s)


if __name__ == "__main__":
    main()
