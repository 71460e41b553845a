"""The loop, turned several times in a row by the command line: docs/explanation/flywheel.md.

Each turn SIMULATED users click on what serves, with exploration on, negatives are mined from all clicks so
far, a re-ranker is trained on them and promoted if the gate says IMPROVED. 100 judged train queries, which
are not learned from, choose and decide. The test queries are measured after each turn with the new version,
whether it serves or not: nDCG@10, and how far ``Hit.relevance`` is off over their ten best hits (ECE), beside
what probabilities that are right would show by chance. One JSON line a turn. The data are a copy of what
flywheel.py has indexed and clicked in for the first turn.

    python benchmarks/learning/turns.py --data build/flywheel --work build/turns --set "stackfaq, known"
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flywheel import JUDGED, LEARNED, SESSIONS_A_QUERY, TESTED
from judged_sets import SETS, chance
from pyarrow import parquet

from quarry.client import Client
from quarry.models.calibration import ECE_BINS, measure_calibration_error
from quarry.v1.search_service_pb2 import SearchRequest
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server

Qrels = dict[str, dict[str, int]]


class Turns:
    """One set on one server, and what was measured of its turns."""

    def __init__(self, name: str, work: Path, address: str) -> None:
        self._set, self._work, self._address = SETS[name], work, address
        train = self._set.qrels(self._set.train, LEARNED)
        judged = sorted(train, key=chance)[:JUDGED]
        self._queries = str(self._set.file("queries.jsonl"))
        self._sessions = SESSIONS_A_QUERY * len(train)
        self._asked = self._write("asked", {id: of for id, of in train.items() if id not in judged})
        self._judged = self._write("judged", {id: train[id] for id in judged})
        self._tested = self._set.qrels(self._set.test, TESTED)
        self._test = self._write("test", self._tested)

    def turn(self, number: int) -> dict[str, Any]:
        started = time.monotonic()
        if number > 1:
            seed = ["--seed", str(number), "--sessions", str(self._sessions), "--swap", "0.1", "--skew", "0"]
            self._run("simulate", *self._with(self._asked), *seed)
        examples = self._work / f"turn-{number}.parquet"
        examples.unlink(missing_ok=True)
        mined = self._run("mine", "--from-feedback", "--out", str(examples))
        began = time.monotonic()
        trained = self._run("train", "--examples", str(examples), *self._with(self._judged))
        training_s = time.monotonic() - began
        version = trained["model_version"]
        if trained["verdict"] == "IMPROVED":  # a person weighs the cautions: the judged queries are few
            self._quarry("model", "promote", version)
        measured = self._measure(version) if version else {"advice": trained["advice"]}
        rows = parquet.read_table(examples, columns=["label", "s_qd"]).to_pandas()
        return {
            "turn": number,
            "mining": mined["verdict"],
            "rows": len(rows),
            "s_qd": round(float(np.nanmean(rows.s_qd[rows.label == 0])), 4),
            "version": version,
            "verdict": trained["verdict"],
            "cautions": trained["cautions"],
            "gate": [m for m in trained["metrics"] if m["measure"] == "nDCG@10" and m["slice"] == "all"],
            **measured,
            "training_seconds": round(training_s),
            "seconds": round(time.monotonic() - started),
        }

    def _measure(self, version: str) -> dict[str, Any]:
        """Measures a version on the test queries: nDCG@10 by run, and how far its relevance is off."""
        runs = self._run("evaluate", "--model", version, *self._with(self._test))
        return {
            **{name: runs[name]["nDCG@10"] for name in ("fused", "reranked")},
            "calibration": self._quarry("model", "show", version).get("calibration"),
            "test_ece": self._measure_relevance(version),
        }

    def _measure_relevance(self, version: str) -> dict[str, float] | None:
        """Compares the relevance of the ten best hits of each test query with its judgments; None without."""
        believed, relevant = [], []
        texts = read_queries(self._set.file("queries.jsonl"), set(self._tested))
        with Client(self._address, timeout_s=60) as quarry:
            for id, text in texts.items():
                request = SearchRequest(collection="bench", query=text, unlogged=True)
                request.rerank.model = version
                for hit in quarry.search.Search(request).hits:
                    if hit.HasField("relevance"):
                        believed.append(hit.relevance)
                        relevant.append(self._tested[id].get(hit.document.id, 0) > 0)
        if not believed:
            return None
        found = np.array(believed)
        draws = np.random.default_rng(0).random((200, len(found))) < found
        by_chance = [measure_calibration_error(found, draw, ECE_BINS) for draw in draws]
        return {
            "ece": round(measure_calibration_error(found, np.array(relevant), ECE_BINS), 4),
            "chance": round(float(np.quantile(by_chance, 0.95)), 4),
            "hits": len(found),
        }

    def _with(self, qrels: Path) -> list[str]:
        return ["--queries", self._queries, "--qrels", str(qrels)]

    def _run(self, command: str, *arguments: str) -> dict[str, Any]:
        return self._quarry(command, "bench", *arguments)

    def _quarry(self, *arguments: str) -> dict[str, Any]:
        line = [sys.executable, "-m", "quarry_cli", *arguments]
        line += ["--server", self._address, "--timeout", "7200", "--json"]
        done = subprocess.run(line, check=False, capture_output=True, text=True)
        if not done.stdout:
            sys.exit(f"{' '.join(arguments)}: {done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _write(self, name: str, qrels: Qrels) -> Path:
        lines: Iterable[str] = (f"{q}\t{d}\t{grade}" for q, of in qrels.items() for d, grade in of.items())
        target = self._work / f"{name}.tsv"
        target.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines, ""]))
        return target


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that flywheel.py has filled")
    parser.add_argument("--work", type=Path, required=True, help="folder that is made")
    parser.add_argument("--set", choices=SETS, default="stackfaq, known")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    name = options.set.replace(",", "").replace(" ", "-")
    source, work = options.data / name / "data", options.work / name
    if not source.exists():
        sys.exit(f"{source} is not there: flywheel.py makes it")
    if work.exists():  # the first turn would begin with the clicks and models of those that were made there
        sys.exit(f"{work} is there, with what other turns have left: remove it, or name another --work")
    shutil.copytree(source, work / "data")
    with run_server(work) as address:
        turns = Turns(options.set, work, address)
        for number in range(1, options.turns + 1):
            found = {"benchmark": "turns", "set": options.set, **turns.turn(number)}
            print(json.dumps(found), flush=True)
            if not found["version"]:  # the next turn would measure whatever serves, under this turn's number
                sys.exit(f"turn {number}: {found['verdict']} and no model: {'; '.join(found['advice'])}")


if __name__ == "__main__":
    main()
