"""What learning from clicks is worth, and which negatives it is best done with: docs/explanation/flywheel.md.

For each set a server indexes the documents, SIMULATED users (position and trust bias, 10 % noise) search
with train queries and click on what the server really shows, and each arm mines its negatives from these
clicks. Every rule has the same positives, steps and base, as many negatives, and three seeds of training.
The judgments of 40 train queries that are not learned from make the choices, those of 60 more the verdict;
figures are of test queries, which no training reads, or with ``--development`` of queries to choose by. The
encoder's states of a passage do not change in training, so they are computed once for all trainings of a set.
Each (set, arm, seed) gives one JSON line with the measures of every query; a run goes on where an earlier one
was ended.

    python benchmarks/learning/flywheel.py --data build/flywheel --out benchmarks/results/flywheel.jsonl
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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import ir_measures
import numpy as np
from flywheel_arms import ARMS, ENSEMBLE_SETS, PARAPHRASE, SEEDS, Arm
from ir_measures import RR, nDCG
from judged_sets import SETS, chance
from outside_encoders import write_paraphrase
from pyarrow import parquet
from shared_trainings import SharedStates, asking_once

from quarry.client import Client, QuarryCallError
from quarry.jobs.child import ProgressReporter
from quarry.jobs.files import write_model
from quarry.mining.spec import JudgedQuery
from quarry.models.blend import read_blend
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.questions import make_question_key
from quarry.training.folders import FOLDER, MODEL
from quarry.training.spec import ModelRef, TrainingResult, TrainingSpec
from quarry.v1 import collection_service_pb2, mining_service_pb2
from quarry_cli.calls.mining import run_mining, write_examples
from quarry_cli.calls.sessions import Simulation, run_sessions
from quarry_cli.commands.simulate import make_simulated_users
from quarry_cli.connection import connect
from quarry_cli.console import make_progress
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server
from quarry_trainer.data.dataset import BadExamplesError
from quarry_trainer.data.live import RankedQuery, open_search
from quarry_trainer.data.training_data import rank_once
from quarry_trainer.evaluation.scoring import FUSED_ALONE, order_by_blend, score_ranked
from quarry_trainer.trainings.reranker import LATE_STEPS
from quarry_trainer.trainings.training_run import train

SESSIONS_A_QUERY, JUDGED = 10, 100
LEARNED, TESTED = 800, 300
"""Train queries that users ask, and test queries that are measured, at most; by chance."""
MEASURES = [RR @ 3, RR @ 10, nDCG @ 10]
TEST, DEVELOPMENT = "test", "development"
"""Which queries a line is of; older lines do not say it, and are of test queries."""
SPLIT_STEPS = 150


class Bench:
    """One set on one server: documents, clicks, and what is measured."""

    def __init__(
        self, name: str, quarry: Client, address: str, work: Path, paraphrase: Path, development: bool = False
    ) -> None:
        self.development, self.part = development, DEVELOPMENT if development else TEST
        self.paraphrase = f"encoder:{paraphrase}"
        self.name, self.set = name, SETS[name]
        self.quarry, self.address, self.work = quarry, address, work
        self.train = self.set.qrels(self.set.train, LEARNED)
        self.test = (
            self.set.development(LEARNED, TESTED) if development else self.set.qrels(self.set.test, TESTED)
        )
        self.data = work / "data"
        self.key = 0
        self.candidates: list[RankedQuery] = []
        self.states = SharedStates()
        self._ranked: dict[str, RankedQuery] = {}

    def prepare(self) -> None:
        """Index, simulate, and what the first stage gives for the test queries; what is there is kept."""
        if not (self.work / "indexed").exists():
            self._index()
            (self.work / "indexed").touch()
        if not (self.work / "simulated").exists():
            self._simulate()
            (self.work / "simulated").touch()
        with sqlite3.connect(self.data / "documents.db") as database:
            (self.key,) = database.execute("SELECT id FROM collections").fetchone()
        with open_search(self.data, self.address, "bench", self.key) as live:
            texts = self.texts(self.test)
            place = self.work / self.part
            place.mkdir(exist_ok=True)
            found = rank_once(live, texts, 50, place, lambda _done, _of: None)
            self.candidates = [found[id] for id in sorted(texts)]

    def examples(self, name: str, arm: Arm) -> Path:
        """The mined set of an arm, made once."""
        target = self.work / f"{name}.parquet".replace(" ", "-").replace(",", "")
        if target.exists():
            return target
        members = [self.paraphrase if member == PARAPHRASE else member for member in arm.members]
        request = mining_service_pb2.MineHardNegativesRequest(
            collection="bench",
            preset=arm.preset,
            members=members,
            parameters=dict(arm.constants),
            negatives=arm.negatives,
        )
        if arm.judged:
            for id, text in self.texts(self.train).items():
                judged = request.queries.add(query_id=id, text=text)
                for document, grade in self.train[id].items():
                    judged.judgments.add(document_id=document, grade=grade)
        else:
            request.feedback.SetInParent()
        if arm.naive:
            request.feedback.model = mining_service_pb2.CLICK_MODEL_CTR
            request.feedback.floor = 0.0
        made = run_mining(self.quarry, request)
        write_examples(self.quarry, made.name, target)
        return target

    def trained(self, examples: Path, arm: Arm, seed: int, steps: int) -> tuple[TrainingResult, Path]:
        encoder = ModelRef(name=DEFAULT_ENCODER, folder=str(resolve_model(DEFAULT_ENCODER).path))
        spec = TrainingSpec(
            name=f"bench-{time.time_ns()}",
            collection="bench",
            collection_key=self.key,
            server=self.address,
            examples=str(examples),
            examples_name=examples.name,
            base=encoder,
            form=arm.form,
            steps=SPLIT_STEPS if arm.form == "split" else steps,
            seed=seed,
            judgments=() if arm.unjudged else self.judged(),
        )
        folder = self.data / FOLDER / spec.name
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder / "spec.json", spec)
        with asking_once(self._ranked):
            result = train(spec, folder, ProgressReporter(lambda _line: None), self.states.open)
        return result, folder / MODEL

    def judged(self) -> tuple[JudgedQuery, ...]:
        """Train queries that are not learned from: their true judgments choose blend and stopping."""
        ids = sorted(self.train, key=chance)[:JUDGED]
        texts = self.texts(ids)
        return tuple(JudgedQuery(id=id, text=texts[id], judgments=self.train[id]) for id in ids)

    def orders(self, model: Path | None) -> dict[str, tuple[str, ...]]:
        """The test candidates in a model's blended order; in fused order without one, or where its blend
        leaves it out."""
        blend = FUSED_ALONE if model is None else read_blend(model)
        if model is None or not blend.rerank:
            scores = [np.zeros(len(query)) for query in self.candidates]
        else:
            scores = score_ranked(self.states.get_scorer(model), self.candidates)
        return {
            query.query_id: order_by_blend(query, some, blend)
            for query, some in zip(self.candidates, scores, strict=True)
        }

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        return read_queries(self.set.file("queries.jsonl"), set(ids))

    def measured(self, orders: dict[str, tuple[str, ...]]) -> dict[str, dict[str, float]]:
        run = {id: {d: -float(n) for n, d in enumerate(order)} for id, order in orders.items()}
        values: dict[str, dict[str, float]] = {str(m): dict.fromkeys(self.test, 0.0) for m in MEASURES}
        for metric in ir_measures.iter_calc(MEASURES, self.test, run):
            values[str(metric.measure)][metric.query_id] = round(metric.value, 5)
        return values

    def _index(self) -> None:
        corpus = self.work / "corpus.jsonl"
        source = self.set.file("corpus.jsonl")
        open_file = gzip.open if source.suffix == ".gz" else open
        with open_file(source, "rb") as lines, corpus.open("w") as out:
            for line in lines:
                record = json.loads(line)
                if self.set.text_only:
                    record.pop("title", None)
                out.write(json.dumps(record) + "\n")
        wanted = collection_service_pb2.Collection(name="bench")
        create = collection_service_pb2.CreateCollectionRequest(collection=wanted)
        try:
            self.quarry.collections.CreateCollection(create, timeout=600)
        except QuarryCallError as error:
            if error.code is not grpc.StatusCode.ALREADY_EXISTS:  # an earlier run ended while it indexed
                raise
        command = [sys.executable, "-m", "quarry_cli", "index", "bench", str(corpus)]
        subprocess.run([*command, "--server", self.address, "--wait", "searchable"], check=True)

    def _simulate(self) -> None:
        texts = self.texts(self.train)
        simulation = Simulation(
            "bench", list(texts.items()), self.train, make_simulated_users(), skew=0.0, seed=0, swap=0.1
        )
        with make_progress() as bar:
            run_sessions(self.quarry, simulation, SESSIONS_A_QUERY * len(texts), bar)


Run = tuple[str, str, int]
"""Set, arm and seed."""


def runs(bench: Bench, arms: list[str], seeds: int, steps: int, done: set[Run]) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        for name in arms:
            arm = ARMS[name]
            fits = seed < arm.seeds and (bench.name in ENSEMBLE_SETS or not arm.ensemble)
            fits = fits and (bench.development or not arm.development)
            if fits and (bench.name, name, seed) not in done:
                which = {"set": bench.name, "part": bench.part, "arm": name, "seed": seed, "steps": steps}
                yield {"benchmark": "flywheel", **which, **line(bench, name, arm, seed, steps)}


def line(bench: Bench, name: str, arm: Arm, seed: int, steps: int) -> dict[str, Any]:
    started = time.process_time()
    if not arm.preset:
        orders = bench.orders(None)
        values = bench.measured(orders)
        first = {query: documents[0] for query, documents in orders.items()}
        return {"values": values, "means": _means(values), "first": first}
    examples = bench.examples(name, arm)
    try:
        result, model = bench.trained(examples, arm, seed, steps)
    except BadExamplesError as error:
        return {"refused": str(error)}
    if not result.has_model:
        return {"refused": "; ".join(result.evaluation.advice)}
    values = bench.measured(bench.orders(model))
    shutil.rmtree(bench.data / FOLDER)  # unfinished work too: nobody registers the model, which removes it
    return {
        "values": values,
        "means": _means(values),
        "material": _material(bench, examples),
        "verdict": result.evaluation.verdict,
        "blend": result.blend.model_dump(),
        "made_steps": result.steps,
        "training": result.evaluation.details.get("training"),
        "cpu_seconds": round(time.process_time() - started),
    }


def _material(bench: Bench, examples: Path) -> dict[str, float]:
    """How many pairs were mined, and shares of them by the true judgments: positives that are not relevant,
    negatives that are."""
    relevant = {make_question_key(text): bench.train[id] for id, text in bench.texts(bench.train).items()}
    columns = ["query", "positive_id", "negative_id", "label"]
    rows = parquet.read_table(examples, columns=columns).to_pylist()
    negatives = [row for row in rows if not row["label"]]
    wrong = sum(row["negative_id"] in relevant[make_question_key(row["query"])] for row in negatives)
    pairs = {(make_question_key(row["query"]), row["positive_id"]) for row in rows}
    missed = sum(document not in relevant[query] for query, document in pairs)
    return {
        "pairs": len(pairs),
        "wrong_positives": round(missed / len(pairs), 4),
        "negatives": len(negatives),
        "false_negatives": round(wrong / len(negatives), 4),
    }


def _means(values: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean(list(of.values()))), 4) for name, of in values.items()}


def _done(out: Path, part: str) -> set[Run]:
    """The runs that ``out`` has. Exits if it holds figures of other queries, which no table may mix."""
    lines = out.read_text().splitlines() if out.exists() else []
    found = [json.loads(line) for line in lines]
    if others := {one.get("part", TEST) for one in found} - {part}:
        sys.exit(f"{out} has figures of {', '.join(others)} queries: name another --out for {part} ones")
    return {(one["set"], one["arm"], one["seed"]) for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps servers' data")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what is there is not run again")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="most of an arm")
    parser.add_argument("--steps", type=int, default=LATE_STEPS, help="of late interaction")
    parser.add_argument(
        "--development", action="store_true", help="measure development queries, to choose by"
    )
    options = parser.parse_args()
    done = _done(options.out, DEVELOPMENT if options.development else TEST)
    paraphrase = (options.data / "paraphrase-minilm-l3").resolve()
    if not paraphrase.exists():
        write_paraphrase(paraphrase)
    os.environ["QUARRY_MODELS__FOLDERS"] = json.dumps([str(paraphrase)])
    for name in options.sets:
        if not SETS[name].path.exists():
            sys.exit(f"{name} is not there: {SETS[name].path}")
        work = options.data / name.replace(",", "").replace(" ", "-")
        work.mkdir(parents=True, exist_ok=True)
        with run_server(work) as address, connect(address, 600.0) as quarry:
            bench = Bench(name, quarry, address, work, paraphrase, options.development)
            bench.prepare()
            for result in runs(bench, options.arms, options.seeds, options.steps, done):
                with options.out.open("a") as out:
                    out.write(json.dumps(result) + "\n")
                shown = {k: v for k, v in result.items() if k not in ("values", "training")}
                print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
