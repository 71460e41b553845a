"""How far P(relevant) is off on questions that the fit did not see: by sample, by method, by what is fitted.

The re-ranker is a split cross-encoder, untrained unless ``--model`` names a folder, over the 50 fused
candidates of train queries; its score and the fused one count as ``--fused`` says, in units of their spreads.
Of the queries some are fitted and all others are held to it, in ``DRAWS`` divisions in which no question is
on both sides. ``shown`` is the expected calibration error over the ten best candidates, ``all`` over all 50,
``high`` the 90th percentile of ``shown``. One JSON line a setting; ``--work`` keeps the index and the scores.

    python benchmarks/quality/calibration.py stackfaq --work build/calibration
    python benchmarks/quality/calibration.py scifact --work build/calibration
"""

import argparse
import gzip
import json
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from quarry.mining.spec import JudgedQuery
from quarry.models.blend import Blend
from quarry.models.calibration import ECE_BINS, measure_calibration_error
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.v1 import collection_service_pb2
from quarry_cli.connection import connect
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server
from quarry_trainer.data.judged_sample import CandidateSample
from quarry_trainer.data.live import Float64, RankedQuery, open_search
from quarry_trainer.data.training_data import rank_once
from quarry_trainer.evaluation import calibrating
from quarry_trainer.evaluation.scoring import score_ranked
from quarry_trainer.learning.trainable_forms import FormScorer, open_form

COLLECTIONS = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = {"stackfaq": ("stackfaq-webapps", True), "scifact": ("scifact", False), "medquad": ("medquad", False)}
"""Folder, and whether titles are left out, which are the questions themselves."""
SIZES, DRAWS = (20, 40, 80), 30
Fitted = Callable[[CandidateSample], Callable[[Float64], Float64]]


def platt(first: int) -> Fitted:
    """As versions are calibrated, of so many of the best candidates."""

    def fit(sample: CandidateSample) -> Callable[[Float64], Float64]:
        slope, intercept = calibrating.fit_platt(sample.take(np.flatnonzero(sample.ranks <= first)))
        return lambda scores: np.exp(-np.logaddexp(0.0, -(slope * scores + intercept)))

    return fit


def isotonic(first: int) -> Fitted:
    def fit(sample: CandidateSample) -> Callable[[Float64], Float64]:
        some = sample.ranks <= first
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        curve.fit(sample.scores[some], sample.relevant[some].astype(float))
        found: Callable[[Float64], Float64] = curve.predict
        return found

    return fit


METHODS: Mapping[str, Fitted] = {
    f"{name} of {first}": method(first)
    for name, method in (("platt", platt), ("isotonic", isotonic))
    for first in (10, 20, 50)
}


def judged_queries(name: str, count: int) -> list[JudgedQuery]:
    """Train queries, by chance."""
    folder = COLLECTIONS / SETS[name][0]
    qrels = read_qrels(folder / "qrels" / "train.tsv")
    ids = sorted(qrels, key=lambda id: zlib.crc32(id.encode()))[:count]
    texts = read_queries(folder / "queries.jsonl", set(ids))
    return [JudgedQuery(id=id, text=texts[id], judgments=qrels[id]) for id in ids]


def candidates(name: str, queries: list[JudgedQuery], work: Path) -> list[RankedQuery]:
    """What the first stage gives for each query; documents are indexed once."""
    with run_server(work) as address, connect(address, 600.0) as quarry:
        if not (work / "indexed").exists():
            wanted = collection_service_pb2.Collection(name="bench")
            request = collection_service_pb2.CreateCollectionRequest(collection=wanted)
            quarry.collections.CreateCollection(request)
            command = [sys.executable, "-m", "quarry_cli", "index", "bench", str(corpus(name, work))]
            subprocess.run([*command, "--server", address, "--wait", "searchable"], check=True)
            (work / "indexed").touch()
        with sqlite3.connect(work / "data" / "documents.db") as database:
            (key,) = database.execute("SELECT id FROM collections").fetchone()
        with open_search(work / "data", address, "bench", key) as live:
            texts = {query.id: query.text for query in queries}
            found = rank_once(live, texts, 50, work, lambda _done, _of: None)
    return [found[query.id] for query in queries]


def corpus(name: str, work: Path) -> Path:
    folder, text_only = SETS[name]
    source, target = COLLECTIONS / folder / "corpus.jsonl", work / "corpus.jsonl"
    with _opened(source) as lines, target.open("w") as out:
        for line in lines:
            record = json.loads(line)
            if text_only:
                record.pop("title", None)
            out.write(json.dumps(record) + "\n")
    return target


def _opened(path: Path) -> Any:
    return path.open("rb") if path.exists() else gzip.open(f"{path}.gz", "rb")


def scored(ranked: list[RankedQuery], work: Path, model: Path | None) -> list[Float64]:
    kept = work / f"scores-{model.name if model else 'untrained'}.npz"
    if kept.exists():
        with np.load(kept) as found:
            return [found[query.query_id] for query in ranked]
    if model is None:
        model = work / "untrained"
        make_split_model(resolve_model(DEFAULT_ENCODER).path, 1, model)
    scores = score_ranked(FormScorer(open_form(model, 128, seed=0)), ranked)
    np.savez(kept, **{query.query_id: some for query, some in zip(ranked, scores, strict=True)})
    return scores


def lines(sample: CandidateSample) -> Iterator[dict[str, Any]]:
    calibration, errors = calibrating.fit_calibration(sample)
    yield {
        "method": "as a version's, cross-validated",
        "queries": sample.queries,
        "shown": round(calibration.ece, 4),
        "chance": round(errors.chance, 4),
        "all": round(calibration.ece_all, 4),
    }
    for size in SIZES:
        for name, fit in METHODS.items():
            found = np.array([errors for seed in range(DRAWS) if (errors := _drawn(sample, fit, size, seed))])
            shown, all = found.T
            yield {
                "method": name,
                "queries": size,
                "shown": round(float(shown.mean()), 4),
                "high": round(float(np.quantile(shown, 0.9)), 4),
                "all": round(float(all.mean()), 4),
            }


def _drawn(sample: CandidateSample, fit: Fitted, size: int, seed: int) -> tuple[float, float] | None:
    """Errors on the questions that are left once some are drawn that have about ``size`` queries."""
    first = sample.ranks == 1
    questions = np.random.default_rng(seed).permutation(np.unique(sample.questions))
    sizes = np.cumsum([np.sum(first & (sample.questions == one)) for one in questions])
    drawn = np.isin(sample.questions, questions[: int(np.searchsorted(sizes, size)) + 1])
    try:
        believed = fit(sample.take(np.flatnonzero(drawn)))
    except calibrating.NotCalibrated:
        return None
    rest = sample.take(np.flatnonzero(~drawn))
    probabilities, top = believed(rest.scores), rest.ranks <= calibrating.SHOWN
    shown = measure_calibration_error(probabilities[top], rest.relevant[top], ECE_BINS)
    return shown, measure_calibration_error(probabilities, rest.relevant, ECE_BINS)


def main() -> None:
    parser = argparse.ArgumentParser(description="How far P(relevant) is off on questions that are held out.")
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("--work", type=Path, default=Path("build/calibration"))
    parser.add_argument("--model", type=Path, help="a split cross-encoder's folder")
    parser.add_argument("--queries", type=int, default=160)
    parser.add_argument("--fused", type=float, default=0.5)
    options = parser.parse_args()
    work = options.work / options.set
    work.mkdir(parents=True, exist_ok=True)
    queries = judged_queries(options.set, options.queries)
    ranked = candidates(options.set, queries, work)
    scores = scored(ranked, work, options.model)
    unit = float(np.median([s.std() for s in scores]) / np.median([q.fused.std() for q in ranked]))
    blend = Blend(rerank=1.0, fused=options.fused * unit)
    sample = CandidateSample.from_ranked(ranked, scores, blend, queries, {})
    top = sample.ranks <= calibrating.SHOWN
    told = {
        "set": options.set,
        "questions": sample.asked,
        "relevant_shown": round(float(sample.relevant[top].mean()), 4),
    }
    for line in lines(sample):
        print(json.dumps({"benchmark": "calibration", **told, **line}), flush=True)


if __name__ == "__main__":
    main()
