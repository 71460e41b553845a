"""The definition of an arm: a name, a way to open it, and what searches have to know of its scores.

An arm proposes candidates from an index of its own, which follows the document log. `registry` lists all
arms; whatever opens, follows, searches, merges, explains or mines goes through that list.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from quarry.retrieval.base import DenseStore, ExcerptIndex, LexicalIndex
from quarry.retrieval.inspection import Findings, Inspection
from quarry.retrieval.retriever import QueryEncoder, Retriever
from quarry.schema import Schema
from quarry.types import Change, Docno, Fields, Position
from quarry.waiting import TellProgress, tell_nobody

if TYPE_CHECKING:  # the command line reads the list of arms, and needs no numbers
    import numpy as np
    from numpy.typing import NDArray

NAME = re.compile("[a-z][a-z0-9_-]{0,31}")


class FollowedIndex(Protocol):
    """An index as its follower sees it."""

    @property
    def arm(self) -> str: ...

    @property
    def visible_at_once(self) -> bool:
        """Tells whether ``apply`` alone lets searches find a change; otherwise ``settle`` does."""
        ...

    async def read_position(self) -> Position:
        """Returns the position that is durable."""
        ...

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        """Applies changes, after which the index has all of the log up to ``sequence``."""
        ...

    async def settle(self, sequence: int) -> None:
        """Makes all that was applied, up to ``sequence``, visible and durable."""
        ...


@dataclass(frozen=True, slots=True)
class FollowPolicy:
    """The times at which a follower reads and settles.

    Attributes:
        batch_rows: changes read at a time.
        batch_bytes: content read at a time, roughly.
        settle_batches: settle after so many reads even while more are coming; it bounds what waits in memory.
        settle_s: settle after so long even while more are coming.
        idle_settle_s: shortest time between two settlings when nothing more is coming.
        retry_s: pause after a failure, doubled up to 30 s, or 2 s on a full disk.
    """

    batch_rows: int = 2_048
    batch_bytes: int = 8 * 2**20
    settle_batches: int = 12
    settle_s: float = 5.0
    idle_settle_s: float = 0.2
    retry_s: float = 0.2


class PassageVectors(Protocol):
    """Makes the vectors of documents' passages, and keeps them. Raises ModelError if the encoder fails."""

    async def note_uses(self, owner: str, documents: Mapping[Docno, Fields | None]) -> None:
        """Notes which documents the index ``owner`` holds from now on, None for those that are deleted: what
        nothing uses any more is not kept."""
        ...

    async def read_vectors(
        self, documents: Sequence[Fields], tell: TellProgress = tell_nobody
    ) -> list[NDArray[np.float32]]:
        """Reads the vectors of each document, float32, shape ``(passages, dimension)``.

        Args:
            tell: is told how many of how many new passages are encoded.
        """
        ...

    async def read_kept(self, documents: Sequence[Fields]) -> list[NDArray[np.float32] | None]:
        """Reads what is kept of each document, None where nothing is."""
        ...

    async def encode_again(self, documents: Sequence[Fields]) -> list[NDArray[np.float32]]:
        """Encodes the vectors of each document as the encoder makes them now; keeps nothing."""
        ...

    async def forget(self, documents: Sequence[Fields]) -> None:
        """Drops what is kept of these documents, so that they are encoded when they are wanted next."""
        ...


class Encoding(Protocol):
    """The encoder of a collection."""

    @property
    def encoder(self) -> QueryEncoder: ...

    @property
    def vectors(self) -> PassageVectors: ...

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        ...


class Engines(Protocol):
    """Opens the engines that the server's settings name.

    Raises DataLossError for an index that cannot be read.
    """

    def open_lexical(self, folder: Path, generation: str, schema: Schema) -> LexicalIndex:
        """Opens the index, in the thread of the caller."""
        ...

    def open_excerpts(self, folder: Path, generation: str, schema: Schema) -> ExcerptIndex:
        """Opens the index for suggestions, in the thread of the caller."""
        ...

    async def open_dense(
        self, folder: Path, generation: str, schema: Schema, dimension: int
    ) -> DenseStore: ...


@dataclass(frozen=True, slots=True)
class ArmSite:
    """The place where an arm is opened, and what it may use there.

    Attributes:
        folder: of the arm alone, in that of the generation; it need not exist yet.
        generation: which one it is.
        schema: of the collection.
        engines: that the server has.
        threads: for searches that block.
        encoding: loads the collection's encoder, or gives None if it has none. Raises QuarryError if the
            model cannot be had now.
    """

    folder: Path
    generation: str
    schema: Schema
    engines: Engines
    threads: Executor
    encoding: Callable[[], Awaitable[Encoding | None]]


Rewrite = Callable[[Sequence[Docno]], Awaitable[None]]
"""Puts documents into the arm's index again, as the log holds them, and settles that."""


class OpenArm(Protocol):
    """An arm of one generation that is open. A class that names this one as its base gets its defaults.

    Attributes:
        retriever: answers searches.
        index: follows the log.
    """

    retriever: Retriever
    index: FollowedIndex

    @property
    def lexical(self) -> LexicalIndex | None:
        """The index that browses and counts; None unless the definition says that the arm does."""
        return None

    @property
    def problem(self) -> str | None:
        """Why it does not answer now; None if it does. Known without asking it."""
        return None

    async def count(self) -> int:
        """Counts the documents that it holds."""
        ...

    def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        """Reads each document's version, in any order."""
        ...

    async def inspect(self, inspection: Inspection) -> Findings:
        """Finds what is wrong with what it holds, which nobody may notice who searches it."""
        return Findings()

    async def forget(self, documents: Sequence[Fields]) -> None:
        """Drops what it keeps of documents beside its index, so that it makes that anew."""
        return

    async def erase(self, rewrite: Rewrite) -> None:
        """Leaves nothing in its files of documents that were deleted before. Raises QuarryError.

        Searches and writes go on meanwhile; what is deleted meanwhile may stay until the next time.
        """
        return

    async def close(self) -> None:
        """Releases files, processes and connections."""
        ...


@dataclass(frozen=True, slots=True)
class ArmDefinition:
    """An arm that collections may have.

    Attributes:
        name: in requests, answers, reports and folders: a lower-case letter, then letters, digits, ``_`` and
            ``-``, 32 in all. A degradation of the arm has it, and so does the time that the arm took.
        open: opens the arm of a generation; gives None if the collection has no such arm. Raises
            DataLossError if what lies in the folder cannot be read: it is then set aside, and the arm is
            opened again and filled from the log. Any other QuarryError means that the arm cannot be had now:
            searches say so, and it is tried again.
        weight: its share in a weighted sum where nothing else is said, over 0.
        low: lowest score that its formula can give.
        high: highest one; None if that depends on the query.
        follow: how it follows the log.
        boosts: whether it reads the boosts of the schema's fields.
        browses: whether it lists and counts what passes a filter. One arm does, and no generation opens
            without it.
        compares_passages: whether its candidates say which passage of the document matched. If its retriever
            is a ``PassageRetriever``, searches for diversity and for what is like a document use its vectors.

    Raises:
        ValueError: the name or a number is out of its range.
    """

    name: str
    open: Callable[[ArmSite], Awaitable[OpenArm | None]]
    weight: float
    low: float
    high: float | None = None
    follow: FollowPolicy = field(default_factory=FollowPolicy)
    boosts: bool = False
    browses: bool = False
    compares_passages: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"an arm cannot be called {self.name!r}")
        if not self.weight > 0:
            raise ValueError(f"the weight of the {self.name} arm is {self.weight}, and not over 0")
        if self.high is not None and not self.low < self.high:
            raise ValueError(f"the {self.name} arm gives no score between {self.low} and {self.high}")
