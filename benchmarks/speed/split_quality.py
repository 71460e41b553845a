"""nDCG@10 of re-ranking by precision: what is lost when a split or a late-interaction model serves in int8.

Split cross-encoders with one and two joint layers and late interaction as they start, or a model that was
trained, order the 50
documents that the encoder finds nearest to each test query of stackfaq (text alone). Differences to fp32 with
states in float16 are paired, with 95 % intervals by bootstrap over queries. One JSON line a configuration.

    python benchmarks/speed/split_quality.py
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ir_measures import nDCG
from numpy.typing import NDArray
from serving import load_average

from quarry.errors import ModelError
from quarry.models.base import CrossEncoder
from quarry.models.caches.state_cache import StateCache
from quarry.models.caches.state_forms import ByteStates, HalfStates, StateForm
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.loading import export_model, load_exported
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.runner import Precision
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.torch_modules.late_module import make_late_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.sample import find_sample
from quarry_cli.inputs.topics import read_queries
from quarry_trainer.measures import NDCG, measure_per_query

DEPTH = 50
STATE_BYTES = 2**30
WAYS: tuple[tuple[Precision, StateForm], ...] = (
    ("fp32", HalfStates()),
    ("fp32", ByteStates()),
    ("int8", HalfStates()),
    ("int8", ByteStates()),
)
"""Precision of the joint layers and the form of the states; the first and the last are what is served."""

Qrels = dict[str, dict[str, int]]
Candidates = dict[str, list[str]]
"""Of each query, ids of the documents that the encoder finds nearest, nearest first."""


def candidates(texts: dict[str, str], queries: dict[str, str], data: Path) -> Candidates:
    encoder = load_encoder(DEFAULT_ENCODER, data, "cpu")
    ids = list(texts)
    vectors = encoder.encode(list(texts.values()))
    cosines = encoder.encode(list(queries.values())) @ vectors.T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :DEPTH]
    return {query: [ids[place] for place in row] for query, row in zip(queries, nearest, strict=True)}


def served(folder: Path, data: Path, precision: Precision, form: StateForm) -> TwoStepCrossEncoder:
    """The model as it is served, with states of passages kept in ``form``."""
    states = StateCache(STATE_BYTES)
    model = load_cross_encoder(str(folder), data, "cpu", states=states, precision=precision)
    if not isinstance(model, TwoStepCrossEncoder):
        raise ModelError(f"{folder} is not run in parts")
    model._steps.form = form  # type: ignore[misc]
    return model


def whole(folder: Path, data: Path) -> TransformerCrossEncoder:
    """All of its layers in int8, as an ordinary cross-encoder of this body would be served."""
    exported = export_model(str(folder), ModelKind.CROSS_ENCODER, data)
    return TransformerCrossEncoder(load_exported(exported, "cpu", "int8"))


def scored(
    model: CrossEncoder, texts: dict[str, str], queries: dict[str, str], found: Candidates
) -> NDArray[np.float64]:
    """Shape ``(queries, DEPTH)``."""
    pairs = [[(queries[query], texts[doc]) for doc in docs] for query, docs in found.items()]
    return np.array([[one.score for one in model.score(row)] for row in pairs])


def ndcg(scores: NDArray[np.float64], found: Candidates, qrels: Qrels) -> NDArray[np.float64]:
    orders = {
        query: tuple(docs[place] for place in np.argsort(-row, kind="stable"))
        for (query, docs), row in zip(found.items(), scores, strict=True)
    }
    return measure_per_query(orders, {query: qrels[query] for query in found}, [nDCG @ 10])[NDCG]


def interval(differences: NDArray[np.float64], seed: int) -> list[float]:
    """95 %, by bootstrap."""
    rng = np.random.default_rng(seed)
    means = differences[rng.integers(0, len(differences), (10_000, len(differences)))].mean(axis=1)
    return [round(float(end), 4) for end in np.quantile(means, [0.025, 0.975])]


def compared(
    folder: Path, data: Path, texts: dict[str, str], queries: dict[str, str], found: Candidates, qrels: Qrels
) -> Iterator[dict[str, Any]]:
    """A line for each way to serve the model in ``folder``, compared with the first."""
    exact: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    ways: list[tuple[Precision, StateForm | None, CrossEncoder]]
    ways = [(precision, form, served(folder, data, precision, form)) for precision, form in WAYS]
    ways.append(("int8", None, whole(folder, data)))
    for precision, form, model in ways:
        scores = scored(model, texts, queries, found)
        each = ndcg(scores, found, qrels)
        exact = exact or (scores, each)
        apart = scores - exact[0]
        yield {
            "model": folder.name,
            "joint_layers": precision,
            "states": "none: all layers in int8" if form is None else form.name,
            "queries": len(found),
            "ndcg": round(float(each.mean()), 4),
            "difference": round(float((each - exact[1]).mean()), 4),
            "interval": interval(each - exact[1], seed=0),
            "score_rms": round(float(np.sqrt((apart**2).mean())), 4),
            "score_most": round(float(np.abs(apart).max()), 4),
            "score_deviation": round(float(exact[0].std()), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("build/split_quality"))
    parser.add_argument("--queries", type=int, default=250)
    parser.add_argument("--joint", type=int, nargs="*", default=[1, 2], help="joint layers, untrained")
    parser.add_argument("--model", type=Path, help="folder of a trained one, instead")
    arguments = parser.parse_args()
    data: Path = arguments.data
    sample = find_sample()
    texts = {one["_id"]: one["text"] for one in map(json.loads, sample.corpus.open())}
    qrels = read_qrels(sample.qrels.with_name("test.tsv"))
    queries = read_queries(sample.queries, set(sorted(qrels)[: arguments.queries]))
    found = candidates(texts, queries, data)
    encoder = resolve_model(DEFAULT_ENCODER).path
    untrained = [make_split_model(encoder, joint, data / f"start-{joint}") for joint in arguments.joint]
    untrained.append(make_late_model(encoder, data / "late"))
    for folder in [arguments.model] if arguments.model else untrained:
        for line in compared(folder, data, texts, queries, found, qrels):
            line["load_per_core"] = load_average()
            print(json.dumps({"benchmark": "split_quality", **line}), flush=True)


if __name__ == "__main__":
    main()
