"""What a model was trained on, kept beside its weights, so that what is trained from it is not held to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationError

from quarry.errors import ModelError
from quarry.jobs.files import write_model
from quarry.mining.spec import Written
from quarry.training.marks import (
    Marks,
    checked_marks,
    document_mark,
    former_query_mark,
    packed,
    query_mark,
    unpacked,
)

READING = "reading.json"
"""In the model's folder: it is hashed, exported and imported with it. Eight bytes a query and a document."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all trainings that led to a model have read.

    Attributes:
        queries: that were learned from; those that only chose when to stop are not among them.
        documents: that were learned as relevant, by collection and id.
        silent: names of the models in its line that do not say what they were trained on.
    """

    queries: Marks = frozenset()
    documents: Marks = frozenset()
    silent: frozenset[str] = frozenset()

    def has_query(self, text: str) -> bool:
        return not self.queries.isdisjoint((query_mark(text), former_query_mark(text)))

    def has_document(self, collection: str, id: str) -> bool:
        return document_mark(collection, id) in self.documents

    def __or__(self, other: "Reading") -> "Reading":
        return Reading(
            self.queries | other.queries, self.documents | other.documents, self.silent | other.silent
        )

    def write(self, folder: Path) -> None:
        """Beside the model in ``folder``."""
        kept = _Kept(
            queries=packed(self.queries),
            documents=packed(self.documents),
            silent=tuple(sorted(self.silent)),
        )
        write_model(folder / READING, kept)


def reading_of(folder: Path, name: str) -> Reading:
    """Of the model in ``folder``; one that was made elsewhere is silent.

    Raises:
        ModelError: its file cannot be read.
    """
    try:
        kept = _Kept.model_validate_json((folder / READING).read_bytes())
    except FileNotFoundError:
        return Reading(silent=frozenset({name}))
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"{READING} of {name[:80]} cannot be read: {type(error).__name__}", model=name[:80]
        ) from error
    return Reading(unpacked(kept.queries), unpacked(kept.documents), frozenset(kept.silent))


def joined(readings: Iterable[Reading]) -> Reading:
    """What any of them has read."""
    join: Callable[[Reading, Reading], Reading] = Reading.__or__
    return reduce(join, readings, Reading())


class _Kept(Written):
    format: Literal[1] = 1
    queries: Annotated[str, AfterValidator(checked_marks)]
    documents: Annotated[str, AfterValidator(checked_marks)]
    silent: tuple[str, ...]
