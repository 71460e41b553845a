"""The provenance of a model: what it was trained on, so that what is trained from it is not held to it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ValidationError

from quarry.errors import ModelError
from quarry.jobs.files import write_model
from quarry.mining.spec import JsonModel
from quarry.training.hashes import (
    Marks,
    check_marks,
    mark_document,
    mark_former_query,
    mark_query,
    pack_marks,
    unpack_marks,
)

PROVENANCE, FORMER_PROVENANCE = "provenance.json", "reading.json"
"""In the model's folder: it is hashed, exported and imported with it. Eight bytes a query and a document."""


@dataclass(frozen=True, slots=True)
class TrainingProvenance:
    """The queries and documents that all trainings which led to a model have read.

    Attributes:
        queries: that were learned from; those that only chose when to stop are not among them.
        documents: that were learned as relevant, by collection and id.
        unknown_lineage: names of the models in its line that do not say what they were trained on.
        entities: what these documents speak of, by collection and name, such as a title. A model that was
            made before these were written down has none.
    """

    queries: Marks = frozenset()
    documents: Marks = frozenset()
    unknown_lineage: frozenset[str] = frozenset()
    entities: Marks = frozenset()

    def has_query(self, text: str) -> bool:
        return not self.queries.isdisjoint((mark_query(text), mark_former_query(text)))

    def has_document(self, collection: str, id: str) -> bool:
        return mark_document(collection, id) in self.documents

    def has_entity(self, collection: str, name: str) -> bool:
        return mark_document(collection, name) in self.entities

    def __or__(self, other: "TrainingProvenance") -> "TrainingProvenance":
        return TrainingProvenance(
            self.queries | other.queries,
            self.documents | other.documents,
            self.unknown_lineage | other.unknown_lineage,
            self.entities | other.entities,
        )

    def write(self, folder: Path) -> None:
        """Writes the provenance beside the model in ``folder``."""
        kept = _Kept(
            queries=pack_marks(self.queries),
            documents=pack_marks(self.documents),
            unknown_lineage=tuple(sorted(self.unknown_lineage)),
            entities=pack_marks(self.entities),
        )
        write_model(folder / PROVENANCE, kept)


def read_provenance(folder: Path, name: str) -> TrainingProvenance:
    """Reads the provenance of the model in ``folder``; one that was made elsewhere has an unknown lineage.

    Raises:
        ModelError: its file cannot be read.
    """
    path = folder / PROVENANCE
    if not path.exists():
        path = folder / FORMER_PROVENANCE  # of a version that was made before the file was renamed
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return TrainingProvenance(unknown_lineage=frozenset({name}))
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"{path.name} of {name[:80]} cannot be read: {type(error).__name__}", model=name[:80]
        ) from error
    return TrainingProvenance(
        unpack_marks(kept.queries),
        unpack_marks(kept.documents),
        frozenset(kept.unknown_lineage),
        unpack_marks(kept.entities),
    )


def join_provenances(provenances: Iterable[TrainingProvenance]) -> TrainingProvenance:
    """Joins what any of them has read."""
    join: Callable[[TrainingProvenance, TrainingProvenance], TrainingProvenance] = TrainingProvenance.__or__
    return reduce(join, provenances, TrainingProvenance())


class _Kept(JsonModel):
    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"silent": "unknown_lineage"}

    format: Literal[1] = 1
    queries: Annotated[str, AfterValidator(check_marks)]
    documents: Annotated[str, AfterValidator(check_marks)]
    unknown_lineage: tuple[str, ...]
    entities: Annotated[str, AfterValidator(check_marks)] = ""
