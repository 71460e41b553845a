"""A registry over an empty log, and models that are a few bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from quarry.documents import catalog
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.store import Database
from quarry.documents.tables import open_database
from quarry.registry.serving import Note, find_earlier_reranker, serve_reranker
from quarry.registry.store import ModelRegistry
from quarry.registry.versions import ModelVersion
from quarry.schema import DEFAULT_SCHEMA
from quarry.training.spec import EvaluationReport, KindName, Metric, TrainingResult

RESULT = TrainingResult(
    evaluation=EvaluationReport(
        verdict="IMPROVED",
        advice=("serve it",),
        metrics=(
            Metric(
                measure="nDCG@10", slice="all", subject="difference",
                value=0.02, lower=0.01, upper=0.03, queries=50,
            ),
        ),
        source="judgments",
        queries=50,
    ),
    kind="reranker", base="a-base", examples="set-1", data_hash="abc", loss="lce", steps=7, seed=3,
    joint_layers=2, max_tokens=128, train_s=1.5, simulated=True, feedback_start_us=1, feedback_end_us=2,
)  # fmt: skip


@dataclass(frozen=True)
class Small:
    """A data folder with one collection, ``faq``."""

    data: Path
    database: Database
    registry: ModelRegistry

    def create(self, name: str) -> Collection:
        settings = CollectionSettings(name, DEFAULT_SCHEMA, "none")
        return self.database.writer.submit(lambda c: catalog.create_collection(c, settings)).result()

    def read_collection(self, name: str = "faq") -> Collection:
        return self.database.read(lambda c: catalog.get_collection(c, name))

    def delete(self, name: str = "faq") -> None:
        self.database.writer.submit(lambda c: catalog.delete_collection(c, name, None)).result()

    def register(self, text: str = "weights", kind: KindName = "reranker") -> ModelVersion:
        return self.registry.register("faq", kind, model_folder(self.data / "made" / text, text))

    def serve(self, model: str, rollback: bool = False, collection: str = "faq") -> None:
        def write(connection: sa.Connection) -> None:
            current = catalog.get_collection(connection, collection)
            serve_reranker(connection, current, model, Note("me", "why"), rollback)

        self.database.writer.submit(write).result()

    def earlier(self) -> str | None:
        return self.database.read(lambda c: find_earlier_reranker(c, catalog.get_collection(c, "faq")))

    def files(self) -> set[str]:
        """Of the registry, by their paths in its folder."""
        root = self.registry.root
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@contextmanager
def small(data: Path, try_model: Callable[[Path, KindName], None] | None = None) -> Iterator[Small]:
    data.mkdir(exist_ok=True)
    database = Database(open_database(data / "documents.db"))
    try:
        yield Small(data, database, ModelRegistry(data, database, try_model or (lambda folder, kind: None)))
    finally:
        database.close()


def model_folder(folder: Path, text: str) -> Path:
    """What looks like a model, and differs from one to the other."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(text)
    (folder / "optimizer.pt").write_text("not a model's")
    return folder
