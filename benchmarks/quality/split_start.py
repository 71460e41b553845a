"""Where a split cross-encoder starts, before any training: nDCG@10 by joint layers and by damping.

On train queries of stackfaq, text alone, the 50 fused candidates. ``damping`` 0 is full sight of the other
text, as PreTTR and DeFormer have it. One JSON line a configuration.

    python benchmarks/quality/split_start.py
"""

import argparse
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ir_measures import nDCG

from quarry.models.blend import RERANKER_ALONE
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.torch_modules.split_module import (
    START_DAMPING,
    load_split_module,
    make_split_model,
    save_split_model,
)
from quarry.v1 import collection_service_pb2
from quarry_cli.calls.visibility import wait_searchable
from quarry_cli.commands.demo import SCHEMA
from quarry_cli.commands.index import Conversion, Reading, Summary, write_files
from quarry_cli.connection import connect
from quarry_cli.files.batches import Failures
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.sample import find_sample
from quarry_cli.inputs.schema_file import to_schema_message
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server
from quarry_trainer.data.live import RankedQuery, open_search
from quarry_trainer.evaluation.scoring import FUSED_ALONE, order_by_blend, score_ranked
from quarry_trainer.learning.trainable_forms import FormScorer, open_form
from quarry_trainer.measures import NDCG, measure_per_query

CONFIGURATIONS = [(joint, damping) for joint in (1, 2) for damping in (0.0, START_DAMPING)]
BATCH_BYTES = 2**20


def candidates(work: Path, queries: int) -> tuple[list[RankedQuery], dict[str, dict[str, int]]]:
    """What the first stage gives for some train queries, and their judgments."""
    sample = find_sample()
    qrels = read_qrels(sample.qrels.with_name("train.tsv"))
    chosen = {id: qrels[id] for id in sorted(qrels)[:: len(qrels) // queries][:queries]}
    with run_server(work) as address, connect(address, 600.0) as quarry:
        wanted = collection_service_pb2.Collection(name="bench", schema=to_schema_message(SCHEMA))
        request = collection_service_pb2.CreateCollectionRequest(collection=wanted)
        quarry.collections.CreateCollection(request)
        summary = Summary("bench")
        write_files(quarry, Reading([sample.corpus]), Conversion(BATCH_BYTES), summary, Failures())
        wait_searchable(quarry, "bench", summary.sequence, summary.documents)
        with sqlite3.connect(work / "data" / "documents.db") as database:
            (key,) = database.execute("SELECT id FROM collections").fetchone()
        with open_search(work / "data", address, "bench", key) as live:
            return live.rank(read_queries(sample.queries, set(chosen))), chosen


def damped(joint_layers: int, damping: float, target: Path) -> Path:
    """An untrained split cross-encoder."""
    make_split_model(resolve_model(DEFAULT_ENCODER).path, joint_layers, target)
    module = load_split_module(target, "sdpa")
    with torch.no_grad():
        module.damping.fill_(damping)
    save_split_model(module, json.loads((target / "config.json").read_text()), target)
    return target


def lines(queries: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ranked, qrels = candidates(work, queries)
        zeros = [np.zeros(len(query)) for query in ranked]
        fused = {q.query_id: order_by_blend(q, s, FUSED_ALONE) for q, s in zip(ranked, zeros, strict=True)}
        yield {"order": "fused", "ndcg": _mean(fused, qrels), "queries": queries}
        for joint, damping in CONFIGURATIONS:
            form = open_form(damped(joint, damping, work / f"split-{joint}-{damping:g}"), 128, seed=0)
            scores = score_ranked(FormScorer(form), ranked)
            orders = {
                q.query_id: order_by_blend(q, s, RERANKER_ALONE) for q, s in zip(ranked, scores, strict=True)
            }
            found = {"order": "split", "joint_layers": joint, "damping": damping}
            yield {**found, "ndcg": _mean(orders, qrels), "queries": queries}


def _mean(orders: dict[str, tuple[str, ...]], qrels: dict[str, dict[str, int]]) -> float:
    return round(float(measure_per_query(orders, qrels, [nDCG @ 10])[NDCG].mean()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where a split cross-encoder starts, before any training.")
    parser.add_argument("--queries", type=int, default=120)
    for line in lines(parser.parse_args().queries):
        print(json.dumps({"benchmark": "split_start", **line}), flush=True)


if __name__ == "__main__":
    main()
