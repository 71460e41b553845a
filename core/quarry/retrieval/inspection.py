"""The question to an arm what is wrong with what it holds, and its answer."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from quarry.deadline import Deadline
from quarry.types import Docno, Document


@dataclass(frozen=True, slots=True)
class VectorSample:
    """The size of the sample that a check looks at.

    Attributes:
        documents: whose stored vectors are read, at most; None for all. 20,000 passages of 384 numbers take
            some 3 s of one core.
        encoded: documents that are encoded again, at most; None for all.
        seed: of the draw.
    """

    documents: int | None = 20_000
    encoded: int | None = 16
    seed: int = 0


class FollowedArm(Protocol):
    """The follower that keeps the arm up with the log, and can hold it still."""

    @property
    def visible(self) -> int:
        """Every write up to this sequence number is in the arm."""
        ...

    def pause(self) -> AbstractAsyncContextManager[Any]:
        """While it is entered, the arm stays as it is."""
        ...


class LoggedDocuments(Protocol):
    """The log, as a check reads it; calls block."""

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]: ...


@dataclass(frozen=True, slots=True)
class Inspection:
    """The documents and vectors that an arm is asked to look at.

    Attributes:
        docnos: documents that it holds in the log's version.
        follower: holds the arm still.
        documents: of the collection.
        sample: how much of it is looked at, where that is much.
        deadline: when to stop.
    """

    docnos: Sequence[Docno]
    follower: FollowedArm
    documents: LoggedDocuments
    sample: VectorSample
    deadline: Deadline


@dataclass(slots=True)
class Findings:
    """The damage that an arm finds in itself.

    Attributes:
        files: what is wrong with its files; empty if nothing is, or it does not look.
        vectors: stored vectors that were looked at.
        encoded: documents that were encoded again.
        damaged: documents whose vectors are not theirs.
        wrongly_encoded: whether the cache holds what the encoder does not make, so that no vector is beyond
            doubt.
    """

    files: str = ""
    vectors: int = 0
    encoded: int = 0
    damaged: list[Docno] = field(default_factory=list)
    wrongly_encoded: bool = False
