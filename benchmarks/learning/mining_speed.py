"""Time to mine, as a multiple of sentence-transformers' ``mine_hard_negatives``, and what it grows with.

The first JSON line: scifact's training queries with one encoder, one vector a document and ``perc-pos``
(theirs: ``relative_margin=0.05``), from texts to rows. Both read their vectors from their own cache on
disk, in each repetition; imports, the model and the first filling of the caches are not counted. ``ratio``
is their median by ours. The others: seconds and parts of it for a growing share of queries, of documents,
and for more members, with `quarry` and 7 negatives; spaces are counted apart from mining.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from mining_agreement import Theirs, first_passages, queries_of
from mining_data import COLLECTIONS, Judged, read_judged, sources_of

from quarry.documents.vector_cache import VectorCache
from quarry_miner.corpus import Corpus
from quarry_miner.job.task_builder import Sources, assemble
from quarry_miner.mining.mining import mine
from quarry_miner.presets.registry import make_preset

NEGATIVES = 3
REPEAT = 5
SHARES = (0.125, 0.25, 0.5, 1.0)
MEMBERS = (("dense",), ("dense", "lsa"), ("dense", "lsa", "bm25"))


def seconds(call: Callable[[], object], repeat: int = REPEAT) -> list[float]:
    call()
    found = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


def against_theirs(judged: Judged, data: Path) -> dict[str, Any]:
    warm = sources_of(judged, data, one_vector=True, lexical=False)
    texts = first_passages(warm)
    queries = queries_of(judged, warm)
    pairs = [(query.text, texts[p.document]) for query in queries for p in query.positives]
    theirs = Theirs(data / "sentence-transformers", max_tokens=256)
    preset = make_preset("perc-pos")
    rows: dict[str, int] = {}

    def ours() -> None:
        cache = VectorCache(data / "vectors.db")
        corpus = Corpus.from_documents(judged.documents, warm.corpus.schema)
        sources = dataclasses.replace(warm, corpus=corpus, cache=cache)
        task = assemble(preset, queries, sources, ["dense"], depth=NEGATIVES * 10 + 9)
        rows["ours"] = len(mine(task, preset, NEGATIVES, seed=0).examples)
        cache.close()

    def their_own() -> None:
        rows["theirs"] = len(theirs.mine(pairs, texts, relative_margin=0.05))

    own, other = seconds(ours), seconds(their_own)
    return {
        "benchmark": "mining_speed",
        "set": judged.name,
        "queries": len(queries),
        "pairs": len(pairs),
        "documents": len(texts),
        "rows": rows,
        "ours_s": round(median(own), 3),
        "theirs_s": round(median(other), 3),
        "ratio": round(median(other) / median(own), 2),
    }


def cost(judged: Judged, sources: Sources, members: tuple[str, ...]) -> dict[str, Any]:
    preset = make_preset("quarry")
    queries = queries_of(judged, sources)
    began = time.perf_counter()
    task = assemble(preset, queries, sources, members)
    made = time.perf_counter() - began
    task.space.queries.embed([query.text for query in queries])
    taken = median(seconds(lambda: mine(task, preset, 7, seed=0), repeat=3))
    pairs = sum(len(query.positives) for query in queries)
    return {
        "queries": len(queries),
        "pairs": pairs,
        "documents": len(sources.corpus),
        "members": list(members),
        "spaces_s": round(made, 3),
        "mining_s": round(taken, 3),
        "ms_a_pair": round(1_000 * taken / pairs, 3),
    }


def part(judged: Judged, queries: float = 1.0, documents: float = 1.0) -> Judged:
    """The first queries, and the first documents with all that the queries need."""
    kept = dict(list(judged.positives.items())[: max(1, int(len(judged.positives) * queries))])
    needed = {id for positives in kept.values() for id in positives}
    most = int(len(judged.documents) * documents)
    chosen = [d for i, d in enumerate(judged.documents) if i < most or d[0] in needed]
    return Judged(judged.name, chosen, {id: judged.queries[id] for id in kept}, kept)


def growing(judged: Judged, data: Path) -> Iterator[dict[str, Any]]:
    cost(judged, sources_of(judged, data), MEMBERS[-1])  # encodes what no cache holds yet
    for share in SHARES:
        some = part(judged, queries=share)
        yield {"grows": "queries", **cost(some, sources_of(some, data), MEMBERS[-1])}
    few = part(judged, queries=0.1)
    for share in SHARES:
        some = part(few, documents=share)
        yield {"grows": "documents", **cost(some, sources_of(some, data), MEMBERS[-1])}
    for members in MEMBERS:
        yield {"grows": "members", **cost(judged, sources_of(judged, data), members)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps vectors and models")
    parser.add_argument("--only", choices=["ratio", "growth"])
    options = parser.parse_args()
    if not COLLECTIONS.exists():
        sys.exit(f"the test collections are not there: {COLLECTIONS}")
    judged = read_judged("scifact", "qrels/train.tsv")
    if options.only != "growth":
        print(json.dumps(against_theirs(judged, options.data)), flush=True)
    if options.only != "ratio":
        for line in growing(judged, options.data):
            print(json.dumps({"benchmark": "mining_cost", "set": judged.name, **line}), flush=True)


if __name__ == "__main__":
    main()
