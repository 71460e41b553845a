"""Mined examples as groups: a query, a positive, and the negatives that it must come before."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from quarry.errors import DataLossError, MalformedError
from quarry.models.base import CrossEncoder
from quarry.questions import has_words
from quarry.training.examples_limits import MAX_TEXT_BYTES
from quarry.training.uploads import has_changed
from quarry_trainer.data.drop_reasons import Dropped
from quarry_trainer.data.example_files import Columns, read_columns
from quarry_trainer.data.example_rows import BadExamplesError as BadExamplesError
from quarry_trainer.data.example_rows import check_values, choose_rows

PREFIX = b"quarry."
WEIGHT_RANGE = (0.1, 10.0)
"""Weights are taken relative to their mean; one example counts at most this many times another's mean."""
LEAST_DIFFERENCE = 1e-4
"""Between a teacher's scores: a model is not exact to less."""


@dataclass(frozen=True, slots=True)
class Group:
    """One (query, positive) pair and its other documents, as mined.

    Attributes:
        documents: ids of the others, in the order of the file.
        relevant: whether each was re-labelled as relevant after all.
        weights: of each, over 0, with a mean of 1 over the group.
        weight: of the group, with a mean of 1 over all groups.
    """

    query_id: str
    query: str
    positive: str
    documents: tuple[str, ...]
    relevant: tuple[bool, ...]
    weights: tuple[float, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Examples:
    """A file of examples.

    Attributes:
        simulated: a program made some of the feedback that they rest on.
        data_hash: of the file's bytes.
        feedback_us: times of the first and the last page of that feedback; None: the file names none.
        dropped: what of the file is not learned from.
    """

    groups: tuple[Group, ...]
    simulated: bool
    data_hash: str
    feedback_us: tuple[int, int] | None = None
    dropped: Dropped = field(default_factory=Dropped, compare=False)

    @property
    def positives(self) -> dict[str, dict[str, int]]:
        """By query id: grade 1 for every document that some group has as relevant."""
        found: dict[str, dict[str, int]] = {}
        for group in self.groups:
            grades = found.setdefault(group.query_id, {})
            grades[group.positive] = 1
            grades |= {d: 1 for d, yes in zip(group.documents, group.relevant, strict=True) if yes}
        return found

    @property
    def queries(self) -> dict[str, str]:
        """Texts by id."""
        return {group.query_id: group.query for group in self.groups}


def list_learned_documents(groups: Iterable[Group]) -> set[str]:
    """Lists the documents that are relevant in one of them."""
    found: set[str] = set()
    for group in groups:
        found.add(group.positive)
        found.update(d for d, yes in zip(group.documents, group.relevant, strict=True) if yes)
    return found


def read_examples(path: Path, most_text_bytes: int = MAX_TEXT_BYTES) -> Examples:
    """Reads the groups of a Parquet file, in its order; docs/reference/file-formats.md has the columns.

    Raises:
        InvalidArgumentError: it is no such file.
        LimitExceededError: its rows hold more text than ``most_text_bytes``.
        BadExamplesError: it has no rows, rows that are broken, or too many that contradict others.
        DataLossError: it was uploaded, and is not what it was then.
    """
    columns, metadata = read_columns(path, most_text_bytes)
    if not columns["label"]:
        raise BadExamplesError("the file has no examples")
    with path.open("rb") as raw:
        digest = hashlib.file_digest(raw, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    simulated = metadata.get(PREFIX + b"simulated") == b"true"
    if has_changed(path, digest):
        raise DataLossError("the uploaded file of examples has changed on the disk: upload it again")
    weights, dropped = check_values(columns), Dropped()
    groups = _make_groups(columns, weights, choose_rows(columns, dropped))
    return Examples(groups, simulated, digest, _read_feedback_us(metadata), dropped)


def _read_feedback_us(metadata: Mapping[bytes, bytes]) -> tuple[int, int] | None:
    """Raises InvalidArgumentError: what stands there is no time, or one of the two is missing."""
    names = [PREFIX + b"feedback_start_us", PREFIX + b"feedback_end_us"]
    if not any(name in metadata for name in names):
        return None
    try:
        start_us, end_us = (int(metadata[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise MalformedError("examples", "has metadata whose times of feedback are broken") from error
    return start_us, end_us


def _make_groups(columns: Columns, weights: np.ndarray, kept: Sequence[int]) -> tuple[Group, ...]:
    """Makes groups. A pair whose rows were all dropped stays a group without others: its positive answers
    the query."""
    rows: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(zip(columns["query_id"], columns["positive_id"], strict=True)):
        if has_words(columns["query"][place]):
            rows.setdefault(pair, []).append(place)
    left = np.zeros(len(weights), np.bool_)
    left[list(kept)] = True
    places = [[place for place in some if left[place]] or some for some in rows.values()]
    whole = float(np.mean([weights[some].mean() for some in places]))
    return tuple(_make_group(columns, weights, some, left, whole) for some in places)


def _make_group(
    columns: Mapping[str, list[object]],
    weights: np.ndarray,
    places: Sequence[int],
    left: np.ndarray,
    whole: float,
) -> Group:
    first, mean = places[0], float(weights[places].mean())
    low, high = WEIGHT_RANGE
    read = [place for place in places if left[place]]
    return Group(
        str(columns["query_id"][first]),
        str(columns["query"][first]),
        str(columns["positive_id"][first]),
        tuple(str(columns["negative_id"][place]) for place in read),
        tuple(bool(columns["label"][place]) for place in read),
        tuple(float(np.clip(weights[place] / mean, low, high)) for place in read),
        float(np.clip(mean / whole, low, high)),
    )


@dataclass(frozen=True, slots=True)
class TextGroup:
    """A group with what a re-ranker reads, the positive first.

    Attributes:
        documents: their ids.
        passages: one for each document.
        fused: score of each that the first stage gave, 0 to 1.
        relevant: of each; the first is True.
        weights: of each; the first is 1.
        teacher: score of each by a teacher; empty without one.
    """

    query: str
    documents: tuple[str, ...]
    passages: tuple[str, ...]
    fused: tuple[float, ...]
    relevant: tuple[bool, ...]
    weights: tuple[float, ...]
    weight: float = 1.0
    teacher: tuple[float, ...] = ()

    def take(self, places: Sequence[int]) -> "TextGroup":
        """Takes some of the documents, by their places; 0, the positive, first."""
        return replace(
            self,
            documents=tuple(self.documents[place] for place in places),
            passages=tuple(self.passages[place] for place in places),
            fused=tuple(self.fused[place] for place in places),
            relevant=tuple(self.relevant[place] for place in places),
            weights=tuple(self.weights[place] for place in places),
            teacher=tuple(self.teacher[place] for place in places) if self.teacher else (),
        )


class GroupDataset:
    """Groups of at most ``size`` documents; the others of a larger group are drawn anew each epoch.

    Attributes:
        epoch: from 0; what is drawn depends on it, on the seed and on the place alone.
    """

    def __init__(self, groups: Sequence[TextGroup], size: int, seed: int) -> None:
        self._groups, self._size, self._seed = groups, size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, place: int) -> TextGroup:
        group = self._groups[place]
        others = len(group.passages) - 1
        if others < self._size:
            return group
        random = np.random.default_rng([self._seed, self.epoch, place])
        drawn = np.sort(random.choice(others, self._size - 1, replace=False)) + 1
        return group.take([0, *drawn.tolist()])


def with_teacher(groups: Sequence[TextGroup], teacher: CrossEncoder) -> list[TextGroup]:
    """Adds the teacher's scores to the groups. Blocks.

    The teacher reads the texts with its own tokenizer, so its vocabulary may be another than the student's.

    Raises:
        BadExamplesError: a score is not finite, or the teacher tells the documents of no group apart.
    """
    pairs = [(group.query, passage) for group in groups for passage in group.passages]
    scores = iter(found.score for found in teacher.score(pairs))
    told = [replace(group, teacher=tuple(next(scores) for _ in group.passages)) for group in groups]
    if not all(np.isfinite(group.teacher).all() for group in told):
        raise BadExamplesError("a score of the teacher is not a finite number")
    if all(np.ptp(group.teacher) < LEAST_DIFFERENCE for group in told):
        raise BadExamplesError(
            "the teacher gives all documents of each query the same score: there is nothing to learn from it"
        )
    return told
