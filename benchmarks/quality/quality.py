"""Retrieval quality on the test collections, by the product's own commands with their defaults.

One JSON line for each collection: nDCG@10 and the rest for each arm and their fusion, as `quarry evaluate`
gives them; with ``--one-vector`` only the first passage of each document is encoded; with ``--weights`` the
fused figure for other shares of the dense arm. ``ratio`` is the fused nDCG@10 to that of the better arm.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.v1 import collection_service_pb2 as collections
from quarry.v1 import search_service_pb2 as search
from quarry_cli.connection import connect
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server
from quarry_cli.views.figures import measure_figures

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARES = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class TestSet:
    """A collection with judgments, relative to the data folder."""

    folder: str
    corpus: str
    qrels: str
    text_only: bool = False


SETS = {
    "stackfaq": TestSet("stackfaq-webapps", "corpus.jsonl", "qrels/test.tsv"),
    "stackfaq-text": TestSet("stackfaq-webapps", "corpus.jsonl", "qrels/test.tsv", text_only=True),
    "trec-session-2012": TestSet("trec-session-2012", "corpus.jsonl", "qrels.tsv"),
    "cranfield": TestSet("cranfield", "corpus.jsonl.gz", "qrels.tsv"),
    "scifact": TestSet("scifact", "corpus.jsonl.gz", "qrels/test.tsv"),
    "awsdocs": TestSet("awsdocs", "corpus.jsonl.gz", "qrels.tsv"),
}


def quarry(*arguments: str) -> str:
    command = [sys.executable, "-m", "quarry_cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def corpus_of(test_set: TestSet, folder: Path) -> Path:
    """The corpus file; without titles, where text alone is wanted."""
    source = DATA / test_set.folder / test_set.corpus
    if not test_set.text_only:
        return source
    target = folder / f"{test_set.folder}-text.jsonl"
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            document = json.loads(line)
            out.write(json.dumps({"_id": document["_id"], "text": document["text"]}) + "\n")
    return target


def measure(
    server: str, name: str, folder: Path, one_vector: bool, weights: bool
) -> Iterator[dict[str, Any]]:
    test_set = SETS[name]
    queries, qrels = DATA / test_set.folder / "queries.jsonl", DATA / test_set.folder / test_set.qrels
    collection = f"{name}-one" if one_vector else name
    with connect(server, 60, default_timeout_s=60) as connection:
        known = connection.collections.ListCollections(collections.ListCollectionsRequest(page_size=1_000))
        if collection not in {c.name for c in known.collections}:
            passages = collections.PassagePolicy(first_only=one_vector)
            request = collections.CreateCollectionRequest(
                collection=collections.Collection(name=collection, passages=passages)
            )
            connection.collections.CreateCollection(request)
    corpus = str(corpus_of(test_set, folder))
    quarry("index", collection, corpus, "--wait", "searchable", "--timeout", "36000", "--server", server)
    arguments = ["--queries", str(queries), "--qrels", str(qrels), "--json", "--server", server]
    result = json.loads(quarry("evaluate", collection, *arguments))
    better = max(result[arm]["nDCG@10"] for arm in ("bm25", "dense"))
    yield {
        "benchmark": "quality",
        "set": name,
        "passages": not one_vector,
        "queries": len(read_qrels(qrels)),
        **result,
        "ratio": result["fused"]["nDCG@10"] / better,
    }
    if weights:
        yield {
            "benchmark": "quality_weights",
            "set": name,
            "ndcg_by_dense_share": sweep(server, collection, queries, qrels),
        }


def sweep(server: str, collection: str, queries: Path, qrels: Path) -> dict[str, float]:
    """nDCG@10 of the fused order by the dense arm's share; ``rrf`` for reciprocal rank fusion."""
    judged = read_qrels(qrels)
    texts = read_queries(queries, set(judged))
    found: dict[str, float] = {}
    with connect(server, 600, default_timeout_s=600) as connection:
        for share in (*SHARES, None):
            run = {}
            for query_id, text in texts.items():
                request = search.SearchRequest(collection=collection, query=text, page_size=100)
                request.return_fields.append("-")
                if share is None:
                    request.fusion.rrf.SetInParent()
                else:
                    request.arms.add(name="bm25", weight=1 - share)
                    request.arms.add(name="dense", weight=share)
                hits = connection.search.Search(request, timeout=60).hits
                run[query_id] = [hit.document.id for hit in hits]
            found["rrf" if share is None else str(share)] = measure_figures(run, judged).means["nDCG@10"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--data", type=Path, help="server data folder to keep, so that vectors are made once")
    parser.add_argument("--one-vector", action="store_true")
    parser.add_argument("--weights", action="store_true")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"the test collections are not there: {DATA}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with run_server(folder) as server:
            for name in options.sets:
                for line in measure(server, name, Path(temporary), options.one_vector, options.weights):
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
