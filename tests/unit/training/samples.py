"""Specs and results of trainings that never were."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from quarry.training.spec import (
    EvaluationReport,
    EvaluationSpec,
    Metric,
    ModelRef,
    TrainingResult,
    TrainingSpec,
    TuningSpec,
)

BASE = ModelRef(name="base", folder="/models/base")


def spec(name: str = "faq-1", key: int = 1, **changes: Any) -> TrainingSpec:
    values = {
        "name": name, "collection": "faq", "collection_key": key, "server": "127.0.0.1:1", "base": BASE,
        "examples": "/data/set.parquet", "examples_name": "set",
    }  # fmt: skip
    return TrainingSpec.model_validate(values | changes)


def evaluation_spec(name: str = "faq-evaluation", **changes: Any) -> EvaluationSpec:
    values = {"name": name, "collection": "faq", "collection_key": 1, "server": "", "candidate": BASE}
    return EvaluationSpec.model_validate(values | changes)


def tuning_spec(name: str = "faq-tuning", **changes: Any) -> TuningSpec:
    values = {
        "name": name, "collection": "faq", "collection_key": 1, "server": "", "arms": ("bm25", "dense")
    }  # fmt: skip
    return TuningSpec.model_validate(values | changes)


def metric(subject: str = "difference", value: float = 0.1, **changes: Any) -> Metric:
    values = {
        "measure": "nDCG@10", "slice": "all", "subject": subject, "value": value, "lower": value - 0.05,
        "upper": value + 0.05, "queries": 40,
    }  # fmt: skip
    return Metric.model_validate(values | changes)


def report(verdict: str = "IMPROVED", **changes: Any) -> EvaluationReport:
    values = {"verdict": verdict, "advice": ("do this",), "metrics": (metric(),), "source": "judgments"}
    return EvaluationReport.model_validate(values | changes)


def result(verdict: str = "IMPROVED", **changes: Any) -> TrainingResult:
    values = {
        "evaluation": report(verdict), "kind": "reranker", "base": "base", "examples": "set",
        "data_hash": "h", "loss": "lce", "steps": 3, "seed": 0, "joint_layers": 2, "max_tokens": 128,
        "train_s": 1.0, "simulated": False,
    }  # fmt: skip
    return TrainingResult.model_validate(values | changes)


ROW = {"query_id": "q", "query": "x", "positive_id": "p", "negative_id": "n", "label": 0, "weight": 1.0}


def write_examples(path: Path, rows: int = 2, **changes: Any) -> bytes:
    """A file of examples; its bytes. A column that is None is left out."""
    columns = {name: [value] * rows for name, value in (ROW | changes).items() if value is not None}
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()


def write_bomb(path: Path, rows: int = 100_000, text_bytes: int = 220_000) -> bytes:
    """A file of some kilobytes in whose rows one text stands again and again; its bytes."""

    def again(text: str) -> pa.Array:
        places = pa.array([0] * rows, pa.int32())
        return pa.DictionaryArray.from_arrays(places, pa.array([text]))

    texts = {"query_id": "q", "query": "x" * text_bytes, "positive_id": "p", "negative_id": "n"}
    columns = {name: again(text) for name, text in texts.items()}
    columns |= {"label": pa.array([0] * rows, pa.int8()), "weight": pa.array([1.0] * rows, pa.float32())}
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    return path.read_bytes()
