"""What `quarry tune` is worth on the test collections, cross-validated, by the product's own command.

One JSON line for each collection: nDCG@10 of each arm, of plain RRF, of the defaults and of the tuned order,
where every part of the queries is merged by what was fitted to the others. Queries are those that choices may
be made by: where a collection has splits, its train or dev queries; its test set is not looked at.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.client import Client
from quarry.v1 import collection_service_pb2 as collections
from quarry.v1 import search_service_pb2 as search
from quarry_cli.connection import connect
from quarry_cli.inputs.compression import open_unpacked
from quarry_cli.inputs.judgments import Qrels, read_qrels
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server
from quarry_cli.views.figures import measure_figures

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NDCG = "nDCG@10"
CALL_S = 600


@dataclass(frozen=True, slots=True)
class TestSet:
    """A collection with judgments, relative to the data folder; those of several splits are joined."""

    folder: str
    corpus: str
    qrels: tuple[str, ...]
    queries: str = "queries.jsonl"
    text_only: bool = False


STACKFAQ = ("qrels/known-train.tsv", "qrels/train.tsv")
SETS = {
    "scifact": TestSet("scifact", "corpus.jsonl.gz", ("qrels/train.tsv",)),
    "cranfield": TestSet("cranfield", "corpus.jsonl.gz", ("qrels.tsv",)),
    "stackfaq": TestSet("stackfaq-webapps", "corpus.jsonl", STACKFAQ),
    "stackfaq-text": TestSet("stackfaq-webapps", "corpus.jsonl", STACKFAQ, text_only=True),
    "trec-session-2012": TestSet("trec-session-2012", "corpus.jsonl", ("qrels.tsv",)),
    "medquad": TestSet("medquad", "corpus.jsonl.gz", ("qrels/dev.tsv",), "queries.jsonl.gz"),
    "awsdocs": TestSet("awsdocs", "corpus.jsonl.gz", ("qrels.tsv",)),
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
    with source.open("rb") as raw, target.open("w") as out:
        for line in open_unpacked(raw):
            document = json.loads(line)
            out.write(json.dumps({"_id": document["_id"], "text": document["text"]}) + "\n")
    return target


def judgments_of(test_set: TestSet, folder: Path) -> Path:
    """All of the set's judgments in one file. Queries without a relevant document are left out."""
    judged: Qrels = {}
    for name in test_set.qrels:
        judged |= read_qrels(DATA / test_set.folder / name)
    target = folder / f"{test_set.folder}.tsv"
    with target.open("w") as out:
        out.write("query-id\tcorpus-id\tscore\n")
        for query, grades in judged.items():
            if max(grades.values()) > 0:
                out.writelines(f"{query}\t{document}\t{grade}\n" for document, grade in grades.items())
    return target


def by_rrf(quarry_server: Client, collection: str, texts: dict[str, str], judged: Qrels) -> float:
    """nDCG@10 of reciprocal rank fusion with k = 60."""
    run = {}
    for query, text in texts.items():
        request = search.SearchRequest(collection=collection, query=text, return_fields=["-"], unlogged=True)
        request.fusion.rrf.SetInParent()
        hits = quarry_server.search.Search(request, timeout=CALL_S).hits
        run[query] = [hit.document.id for hit in hits]
    return measure_figures(run, judged).means[NDCG]


def measure(server: str, name: str, folder: Path) -> dict[str, Any]:
    test_set = SETS[name]
    qrels, queries = judgments_of(test_set, folder), DATA / test_set.folder / test_set.queries
    judged = read_qrels(qrels)
    with connect(server, CALL_S, default_timeout_s=CALL_S) as connection:
        known = connection.collections.ListCollections(collections.ListCollectionsRequest(page_size=1_000))
        if name not in {c.name for c in known.collections}:
            made = collections.CreateCollectionRequest(collection=collections.Collection(name=name))
            connection.collections.CreateCollection(made)
        corpus = str(corpus_of(test_set, folder))
        quarry("index", name, corpus, "--wait", "searchable", "--timeout", "36000", "--server", server)
        rrf = by_rrf(connection, name, read_queries(queries, set(judged)), judged)
    arguments = ["--queries", str(queries), "--qrels", str(qrels), "--json", "--server", server]
    usual = json.loads(quarry("evaluate", name, *arguments))
    tuned = json.loads(quarry("tune", name, *arguments, "--no-promote", "--timeout", str(CALL_S)))
    means = {arm: usual[arm][NDCG] for arm in ("bm25", "dense")}
    default, after = tuned[NDCG]["before"]["value"], tuned[NDCG]["after"]["value"]
    return {
        "benchmark": "tuning",
        "set": name,
        "queries": tuned["queries"],
        **means,
        "rrf": rrf,
        "default": default,
        "tuned": after,
        "difference": tuned[NDCG]["difference"],
        "over_best_arm": after - max(means.values()),
        "over_rrf_and_default": after - max(rrf, default),
        "verdict": tuned["verdict"],
        **{key: tuned[key] for key in ("fusion", "weights", "title_weight", "depth", "per_query", "traits")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--data", type=Path, help="server data folder to keep, so that vectors are made once")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"the test collections are not there: {DATA}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with run_server(folder) as server:
            for name in options.sets:
                print(json.dumps(measure(server, name, Path(temporary))), flush=True)


if __name__ == "__main__":
    main()
