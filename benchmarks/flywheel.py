"""What learning from clicks is worth, and which negatives it is best done with: docs/flywheel.md.

For each set of judged queries a server indexes the documents, SIMULATED users (position and trust bias, 10 %
noise) search with the train queries and click on what the server really shows, and each arm mines its
negatives from the same clicks. One base, one budget of steps, the same 50 fused candidates; choices are made
by the judgments of 40 train queries that are not learned from, the verdict by 60 more; figures are of test
queries, which no training reads, scored as a server scores. Trained, chosen and decided in bf16 where the
processor multiplies that, in half the time. One JSON line for each (set, arm, seed), with the measures of
every query; a run goes on where an earlier one was ended.

    python benchmarks/flywheel.py --data build/flywheel --out benchmarks/results/flywheel.jsonl
"""

import argparse
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import torch
from ir_measures import RR, nDCG

from quarry.mining.sets import write_model
from quarry.mining.spec import JudgedQuery
from quarry.models.blend import RERANKER_ALONE, read_blend
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.split_module import make_split_model
from quarry.models.state_cache import StateCache
from quarry.models.state_store import StateStore
from quarry.training.folders import FOLDER, MODEL
from quarry.training.spec import ModelRef, TrainingResult, TrainingSpec
from quarry.v1 import collection_service_pb2, mining_service_pb2
from quarry_cli.child import running_server
from quarry_cli.connection import Connection, connect
from quarry_cli.console import progress
from quarry_cli.judgments import read_qrels, read_queries
from quarry_cli.mining_calls import mined, write_examples
from quarry_cli.sessions import Simulation, run_sessions
from quarry_cli.simulate import simulated_users
from quarry_trainer.dataset import BadExamplesError
from quarry_trainer.encoder import served_encoder, train_encoder
from quarry_trainer.live import RankedQuery, open_search
from quarry_trainer.material import ranked_once
from quarry_trainer.reranker import train_reranker
from quarry_trainer.scoring import FUSED_ALONE, blended_order, score_ranked

COLLECTIONS = Path(__file__).resolve().parents[2] / "shared" / "data"
SESSIONS_A_QUERY, JUDGED = 10, 100
MEASURES = [RR @ 3, RR @ 10, nDCG @ 10]
SEEDS = 3
STATE_BYTES, STORED_BYTES = 2**30, 8 * 2**30
"""Of passage states in memory, and of each set on disk: all models of a set share their lower layers."""


@dataclass(frozen=True, slots=True)
class TestSet:
    """Documents with judged queries to learn from and to be measured by."""

    folder: str
    train: str
    test: str
    text_only: bool


SETS = {
    "stackfaq-known": TestSet("stackfaq-webapps", "known-train", "known-test", True),
    "stackfaq-unseen": TestSet("stackfaq-webapps", "train", "test", True),
    "scifact": TestSet("scifact", "train", "test", False),
}


@dataclass(frozen=True, slots=True)
class Arm:
    """How negatives are mined.

    Attributes:
        preset: empty: nothing is trained.
        judged: positives are the true judgments instead of clicks.
        needs_reranker: the base serves while this is mined.
        seeds: how many are run.
    """

    preset: str = ""
    members: tuple[str, ...] = ()
    judged: bool = False
    needs_reranker: bool = False
    encoder: bool = False
    seeds: int = 1

    @property
    def is_rule(self) -> bool:
        """Whether its negatives are what tells it from the others."""
        return bool(self.preset) and not self.judged and not self.encoder


ARMS = {
    "fused": Arm(),
    "base": Arm(),
    "random": Arm("random", seeds=SEEDS),
    "in-batch": Arm("in-batch"),
    "bm25": Arm("bm25", seeds=SEEDS),
    "topk": Arm("topk"),
    "perc-pos": Arm("perc-pos", seeds=SEEDS),
    "semi-hard": Arm("semi-hard"),
    "enterprise-2025 (one member)": Arm("enterprise-2025", ("dense",)),
    "enterprise-2025": Arm("enterprise-2025", seeds=SEEDS),
    "denoised": Arm("denoised", needs_reranker=True),
    "refresh": Arm("refresh", needs_reranker=True),
    "quarry": Arm("quarry", seeds=SEEDS),
    "quarry, true judgments": Arm("quarry", judged=True),
    "encoder, quarry": Arm("quarry", encoder=True),
}


class Bench:
    """One set on one server: documents, clicks, and what is measured."""

    def __init__(self, name: str, quarry: Connection, address: str, work: Path, base: Path) -> None:
        self.name, self.set = name, SETS[name]
        self.quarry, self.address, self.work, self.base = quarry, address, work, base
        folder = COLLECTIONS / self.set.folder
        self.queries_file = folder / "queries.jsonl"
        self.train = read_qrels(folder / "qrels" / f"{self.set.train}.tsv")
        self.test = read_qrels(folder / "qrels" / f"{self.set.test}.tsv")
        self.data = work / "data"
        self.key = 0
        self.candidates: list[RankedQuery] = []
        self._states = StateCache(STATE_BYTES, StateStore(work / "states.db", STORED_BYTES))

    def close(self) -> None:
        self._states.close()

    def prepare(self, sessions: int) -> None:
        """Index, simulate, and what the first stage gives for the test queries; what is there is kept."""
        if not (self.work / "indexed").exists():
            self._index()
            (self.work / "indexed").touch()
        if not (self.work / "simulated").exists():
            self._simulate(sessions)
            (self.work / "simulated").touch()
        with sqlite3.connect(self.data / "documents.db") as database:
            (self.key,) = database.execute("SELECT id FROM collections").fetchone()
        with open_search(self.data, self.address, "bench", self.key) as live:
            texts = read_queries(self.queries_file, set(self.test))
            place = self.work / "test"
            place.mkdir(exist_ok=True)
            found = ranked_once(live, texts, 50, place, lambda _done, _of: None)
            self.candidates = [found[id] for id in sorted(texts)]

    def examples(self, name: str, arm: Arm, seed: int) -> Path:
        """The mined set of an arm, made once."""
        target = self.work / f"{name}-{seed}.parquet".replace(" ", "-").replace(",", "")
        if target.exists():
            return target
        request = mining_service_pb2.MineHardNegativesRequest(
            collection="bench", preset=arm.preset, members=arm.members, seed=seed
        )
        if arm.judged:
            texts = read_queries(self.queries_file, set(self.train))
            for id, text in texts.items():
                judged = request.queries.add(query_id=id, text=text)
                for document, grade in self.train[id].items():
                    judged.judgments.add(document_id=document, grade=grade)
        else:
            request.feedback.SetInParent()
        if arm.needs_reranker:
            self._serve(str(self.base))
        made = mined(self.quarry, request)
        if arm.needs_reranker:
            self._serve("")
        write_examples(self.quarry, made.name, target)
        return target

    def trained(self, examples: Path, arm: Arm, seed: int, steps: int) -> tuple[TrainingResult, Path]:
        encoder = ModelRef(name=DEFAULT_ENCODER, folder=str(resolve_model(DEFAULT_ENCODER).path))
        spec = TrainingSpec(
            name=f"bench-{time.time_ns()}",
            collection="bench",
            collection_key=self.key,
            server=self.address,
            what="encoder" if arm.encoder else "reranker",
            examples=str(examples),
            examples_name=examples.name,
            base=encoder if arm.encoder else ModelRef(name="base", folder=str(self.base)),
            serving=encoder if arm.encoder else None,
            steps=steps,
            seed=seed,
            judgments=self.judged(),
        )
        folder = self.data / FOLDER / spec.name
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder / "spec.json", spec)
        train = train_encoder if arm.encoder else train_reranker
        with roughly():
            result = train(spec, folder, lambda _stage, _share, _details=None: None)  # type: ignore[arg-type]
        return result, folder / MODEL

    def judged(self) -> tuple[JudgedQuery, ...]:
        """Train queries that are not learned from: their true judgments choose blend and stopping."""
        ids = sorted(self.train, key=lambda id: zlib.crc32(id.encode()))[:JUDGED]
        texts = read_queries(self.queries_file, set(ids))
        return tuple(JudgedQuery(id=id, text=texts[id], judgments=self.train[id]) for id in ids)

    def orders(self, model: Path | None, encoder: bool = False) -> dict[str, tuple[str, ...]]:
        """The test candidates in a model's blended order; in fused order without one, or where its blend
        leaves it out."""
        blend = FUSED_ALONE if model is None else RERANKER_ALONE if encoder else read_blend(model)
        if model is None or not blend.rerank:
            scores = [np.zeros(len(query)) for query in self.candidates]
        elif encoder:
            scores = score_ranked(served_encoder(model, self.data), self.candidates)
        else:
            served = load_cross_encoder(str(model), self.data, "cpu", states=self._states)
            scores = score_ranked(served, self.candidates)
        return {
            query.query_id: blended_order(query, some, blend)
            for query, some in zip(self.candidates, scores, strict=True)
        }

    def measured(self, orders: dict[str, tuple[str, ...]]) -> dict[str, dict[str, float]]:
        run = {id: {d: -float(n) for n, d in enumerate(order)} for id, order in orders.items()}
        values: dict[str, dict[str, float]] = {str(m): dict.fromkeys(self.test, 0.0) for m in MEASURES}
        for metric in ir_measures.iter_calc(MEASURES, self.test, run):
            values[str(metric.measure)][metric.query_id] = round(metric.value, 5)
        return values

    def _index(self) -> None:
        corpus = self.work / "corpus.jsonl"
        source = COLLECTIONS / self.set.folder / "corpus.jsonl"
        opened = source.open("rb") if source.exists() else _unzipped(source.with_name("corpus.jsonl.gz"))
        with opened as lines, corpus.open("w") as out:
            for line in lines:
                record = json.loads(line)
                if self.set.text_only:
                    record.pop("title", None)
                out.write(json.dumps(record) + "\n")
        wanted = collection_service_pb2.Collection(name="bench")
        self.quarry.collections.CreateCollection(
            collection_service_pb2.CreateCollectionRequest(collection=wanted), timeout=600
        )
        command = [sys.executable, "-m", "quarry_cli", "index", "bench", str(corpus)]
        subprocess.run([*command, "--server", self.address, "--wait", "searchable"], check=True)

    def _simulate(self, sessions: int) -> None:
        texts = read_queries(self.queries_file, set(self.train))
        simulation = Simulation(
            "bench", list(texts.items()), self.train, simulated_users(), skew=0.0, seed=0, swap=0.1
        )
        with progress() as bar:
            run_sessions(self.quarry, simulation, sessions or SESSIONS_A_QUERY * len(texts), bar)

    def _serve(self, reranker: str) -> None:
        wanted = collection_service_pb2.Collection(name="bench", reranker=reranker)
        request = collection_service_pb2.UpdateCollectionRequest(collection=wanted)
        request.update_mask.paths.append("reranker")
        self.quarry.collections.UpdateCollection(request, timeout=600)


def roughly() -> torch.autocast:
    """Multiplies in bf16 meanwhile, where the processor does: half the time."""
    # Without the cache, which is cleared when the context ends: weights change in it.
    return torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16(), cache_enabled=False)


def multiplies_bf16() -> bool:
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _unzipped(path: Path) -> Any:
    return gzip.open(path, "rb")


Run = tuple[str, str, int]
"""Set, arm and seed."""


def runs(bench: Bench, arms: list[str], seeds: int, steps: int, done: set[Run]) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        for name in arms:
            arm = ARMS[name]
            if seed < arm.seeds and (bench.name, name, seed) not in done:
                which = {"set": bench.name, "arm": name, "seed": seed, "steps": steps}
                yield {"benchmark": "flywheel", **which, **line(bench, name, arm, seed, steps)}


def line(bench: Bench, name: str, arm: Arm, seed: int, steps: int) -> dict[str, Any]:
    started = time.monotonic()
    if not arm.preset:
        values = bench.measured(bench.orders(bench.base if name == "base" else None))
        return {"values": values, "means": _means(values)}
    examples = bench.examples(name, arm, 0)
    try:
        result, model = bench.trained(examples, arm, seed, steps)
    except BadExamplesError as error:
        return {"refused": str(error)}
    if not result.has_model:
        return {"refused": "; ".join(result.evaluation.advice)}
    values = bench.measured(bench.orders(model, arm.encoder))
    shutil.rmtree(bench.data / FOLDER)  # unfinished work too: nobody registers the model, which removes it
    return {
        "values": values,
        "means": _means(values),
        "verdict": result.evaluation.verdict,
        "blend": result.blend.model_dump(),
        "made_steps": result.steps,
        "training": result.evaluation.details.get("training"),
        "seconds": round(time.monotonic() - started),
        "trained_in": "bf16" if multiplies_bf16() else "fp32",
    }


def _means(values: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean(list(of.values()))), 4) for name, of in values.items()}


def _done(out: Path) -> set[Run]:
    lines = out.read_text().splitlines() if out.exists() else []
    found = map(json.loads, lines)
    return {(one["set"], one["arm"], one["seed"]) for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps servers' data")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what is there is not run again")
    parser.add_argument("--base", type=Path, help="base re-ranker; default: an untrained split cross-encoder")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="most of an arm")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=0, help="of simulated users; 0: ten a query")
    options = parser.parse_args()
    if not COLLECTIONS.exists():
        sys.exit(f"the test collections are not there: {COLLECTIONS}")
    for name in options.sets:
        work = options.data / name
        work.mkdir(parents=True, exist_ok=True)
        base = (options.base or work / "untrained").resolve()
        os.environ["QUARRY_MODELS__FOLDERS"] = json.dumps([str(base)])  # it serves, for some arms
        if not base.exists():
            make_split_model(resolve_model(DEFAULT_ENCODER).path, 1, base)
        with (
            running_server(work) as address,
            connect(address, 600.0) as quarry,
            closing(Bench(name, quarry, address, work, base)) as bench,
        ):
            bench.prepare(options.sessions)
            for result in runs(bench, options.arms, options.seeds, options.steps, _done(options.out)):
                with options.out.open("a") as out:
                    out.write(json.dumps(result) + "\n")
                shown = {k: v for k, v in result.items() if k not in ("values", "training")}
                print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
