"""What the base of a training was trained on before: it is not held to that again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarry.mining.spec import JudgedQuery
from quarry.registry.names import parse_name
from quarry.training.marks import document_mark, query_marks
from quarry.training.reading import Reading, joined, reading_of
from quarry.training.spec import EvaluationReport, TrainingSpec
from quarry_trainer.data.dataset import Group, learned_documents
from quarry_trainer.data.division import Before


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model has read, as far as it concerns one collection."""

    reading: Reading
    collection: str

    def read(self, query: JudgedQuery) -> bool:
        return self.reading.has_query(query.text)

    def saw(self, query: JudgedQuery) -> bool:
        """Whether it learned a relevant document of the query as relevant to some query."""
        return not self.is_new(id for id, grade in query.judgments.items() if grade > 0)

    def is_new(self, documents: Iterable[str]) -> bool:
        """Whether it learned none of these as relevant."""
        return not any(self.reading.has_document(self.collection, id) for id in documents)

    def of(self, queries: Sequence[JudgedQuery], entities: Mapping[str, str] = {}) -> Before:
        """What it has read of these; documents by what they speak of, where ``entities`` names that."""
        documents = {document for query in queries for document in query.judgments}
        seen = (id for id in documents if self.reading.has_document(self.collection, id))
        return Before(
            frozenset(query.id for query in queries if self.read(query)),
            frozenset(entities.get(id, id) for id in seen),
        )


NO_MEMORY = Memory(Reading(), "")


def read_before(spec: TrainingSpec) -> Reading:
    """By the models that a training starts and learns from. Raises ModelError."""
    models = [spec.base, *([spec.teacher] if spec.teacher else [])]
    return joined(reading_of(Path(model.folder), model.name) for model in models)


def reading_from(groups: Iterable[Group], collection: str) -> Reading:
    """What is written down of a training on ``groups``."""
    groups = list(groups)
    documents = (document_mark(collection, id) for id in learned_documents(groups))
    return Reading(query_marks(group.query for group in groups), frozenset(documents))


def with_memory(report: EvaluationReport, before: Reading, kept_out: int) -> EvaluationReport:
    """``report``, with what was known of the base, or of both models of a comparison, and what follows.

    Args:
        kept_out: queries that did not decide, since one of these had been trained on them.
    """
    details = {
        **report.details,
        "read_before": {
            "queries": len(before.queries),
            "documents": len(before.documents),
            "kept_out": kept_out,
            "silent": sorted(before.silent),
        },
    }
    advice = list(report.advice)
    if kept_out and (report.source == "judgments" or report.verdict == "INSUFFICIENT_DATA"):
        advice.append(f"{kept_out:,} queries do not decide, for the model learned from them before")
    # Of a name that is no version's nobody expects that it saw a collection's queries.
    if versions := sorted(name for name in before.silent if parse_name(name)):
        advice.append(f"{', '.join(versions)} {_SILENT}")
    return report.model_copy(update={"details": details, "advice": tuple(advice)})


_SILENT = (
    "was made elsewhere and does not say what it was trained on: if that was some of these queries or their "
    "documents, the figures flatter what is made of it"
)
