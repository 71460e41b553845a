"""The interfaces of the two arms' indexes, whichever engine is behind them.

An index follows the document log: ``apply`` takes changes in the log's order, and the index keeps, where it
cannot lead what it describes, the position up to which it has them for good. Applying a change again does
no harm, so after a crash the log is replayed from that position.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from quarry.deadline import NO_LIMIT, Deadline
from quarry.facets import Facet, FacetRequest
from quarry.filters import Filter
from quarry.retrieval.ordering import OrderBy
from quarry.retrieval.text_query import SearchText, TextQuery
from quarry.types import Candidate, Change, Docno, Fields, Position

if TYPE_CHECKING:  # the command line reads the list of arms, and needs no numbers
    import numpy as np
    from numpy.typing import NDArray

FIRST_DOCNO = Docno(0)
MAX_PASSAGES = 2**16
"""Passages a document can have; their numbers share the dense store's 64-bit ids with the docno."""


@dataclass(frozen=True, slots=True)
class LexicalResult:
    """The answer of BM25 to one query.

    Attributes:
        candidates: best first, ties by docno.
        total: how many documents match in all.
        ceiling: what no document's score can exceed for this query on this index; 0 if no word of it
            occurs. Bounds scores for fusion.
    """

    candidates: list[Candidate]
    total: int
    ceiling: float = 0.0


@dataclass(frozen=True, slots=True)
class TypedWord:
    """A word of what somebody is typing.

    Attributes:
        text: without accents and capitals; of a script without spaces, one character.
        ends: False if further letters may follow.
    """

    text: str
    ends: bool


@dataclass(frozen=True, slots=True)
class ExcerptQuery:
    """The words that the beginnings of documents are looked for by; a document has to have them all.

    Attributes:
        words: in the order in which they were typed; one at least.
        in_titles: looks in titles alone; else in titles and the first words of the texts.
        begins: the title has to begin with the first word; only with ``in_titles``.
        tolerant: a word of four letters or more may differ by one letter that is missing, added, changed or
            swapped with its neighbour.
    """

    words: tuple[TypedWord, ...]
    in_titles: bool
    begins: bool = False
    tolerant: bool = False


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a document, as the index has it.

    Attributes:
        docno: the document.
        version: sequence number of the write that it comes from.
        title: empty if it has none, or a longer one than the index keeps.
        texts: the beginnings of its other texts.
    """

    docno: Docno
    version: int
    title: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Excerpts:
    """The answer to a query for beginnings.

    Attributes:
        found: of titles the shortest first; of texts in an order that has nothing to do with their content.
        total: how many documents match in all.
    """

    found: list[Excerpt]
    total: int


@dataclass(frozen=True, slots=True)
class OrderedResult:
    """The first documents in the order of their fields.

    Attributes:
        ties: docnos in that order; those of one tuple have equal values, and are in the order of docnos.
        total: how many documents match in all.
    """

    ties: list[tuple[Docno, ...]]
    total: int


class LexicalIndex(Protocol):
    """BM25 over TEXT fields. Calls block; writes come from one thread at a time, reads from any.

    Raises RetrieverUnavailableError where the engine fails.
    """

    @property
    def position(self) -> Position:
        """What the last commit holds; sequence 0 for a new index."""
        ...

    def apply(self, changes: Sequence[Change]) -> None:
        """Adds changes to the next commit: a document replaces what its docno had."""
        ...

    def commit(self, sequence: int) -> None:
        """Makes what was applied durable and visible, and the position ``sequence``, in one step."""
        ...

    def search(
        self, text: SearchText, depth: int, filter: Filter | None, boost_scale: float = 1.0
    ) -> LexicalResult:
        """Finds the ``depth`` best documents with a word of ``text`` that pass ``filter``.

        A ``text`` without words matches nothing. A document matches a query of terms if it has each required
        one, none that is excluded, and one of the optional ones if none is required.

        Args:
            boost_scale: what the boosts of the schema's fields are multiplied by, 0 or more.
        """
        ...

    def browse(self, depth: int, filter: Filter | None, first: Docno = FIRST_DOCNO) -> LexicalResult:
        """Finds the first ``depth`` documents by docno, from ``first`` on, that pass ``filter``.

        Scores are 0. The total counts those before ``first``, too.
        """
        ...

    def order(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        order: Sequence[OrderBy],
        hidden: Collection[Docno] = (),
    ) -> OrderedResult:
        """Orders the documents that ``text`` finds and that pass ``filter``, and gives the first ``depth``.

        With them come all that have equal values with the last one, up to ``MAX_ORDERED`` documents in all.

        Args:
            text: empty for all documents that pass ``filter``; one without words matches nothing.
            depth: 1 to ``MAX_ORDERED``.
            order: one field or more, checked against the schema.
            hidden: documents that are left out.
        """
        ...

    def count_facets(
        self,
        text: SearchText,
        filter: Filter | None,
        facets: Sequence[FacetRequest],
        hidden: Collection[Docno] = (),
        limit: Deadline = NO_LIMIT,
    ) -> list[Facet]:
        """Counts the documents that ``text`` finds and that pass ``filter``, for each of ``facets``.

        Args:
            text: as of ``order``.
            facets: checked against the schema.
            hidden: as of ``order``.
            limit: until when the caller waits; the index stops counting then.

        Raises DeadlineExceeded if they could not all be counted by ``limit``.
        """
        ...

    def score_documents(
        self, text: SearchText, docnos: Collection[Docno], boost_scale: float = 1.0
    ) -> dict[Docno, float]:
        """Scores these documents by BM25 for ``text``.

        One that does not match is left out (its score is 0).
        """
        ...

    def find_key_terms(self, fields: Fields, most: int) -> list[str]:
        """Finds the key terms of a document's searched text, best first, as the text has them.

        These are the words that the text has often and few documents have, but two at least.
        """
        ...

    def rewrite_query(self, query: TextQuery) -> TextQuery:
        """Rewrites ``query`` into what this index looks for.

        Synonyms stand beside the words that they are for, and stop words are left out. A FUZZY term stays,
        with its distance, only where near words are found. If its words are found as they are, optional WORDS
        replace it, for any of them is enough.

        ``quarry.retrieval.lexical.marking.highlighting.QueryMarker`` finds in a text what the result matches.
        """
        ...

    def keep_admitted(self, query: TextQuery, docnos: Collection[Docno]) -> Set[Docno]:
        """Keeps those of the documents that have each required term and none that is excluded."""
        ...

    def read_versions(self) -> Iterator[tuple[Docno, int]]:
        """Reads each document's version, as of the last commit, in any order."""
        ...

    def find_damage(self, deadline: Deadline) -> str:
        """Finds what is wrong with its files, which nobody may notice who reads them; empty if nothing is.

        Raises:
            DeadlineExceeded: they could not all be read by then.
            RetrieverUnavailableError: the index was closed meanwhile.
        """
        ...

    def find_beside_deleted(self, thorough: bool = False) -> list[Docno]:
        """Finds documents that share files with deleted ones; empty if nothing of a deleted one is left.

        Once all of them have been applied again and committed, those files are gone.

        Args:
            thorough: all that may share files with one, where it is not known which do.
        """
        ...

    def close(self) -> None:
        """Releases files and locks; what was not committed is dropped."""
        ...


class ExcerptIndex(Protocol):
    """The beginnings of documents, for suggestions. Calls block; writes come from one thread at a time.

    Raises RetrieverUnavailableError where the engine fails.
    """

    @property
    def position(self) -> Position:
        """What the last commit holds; sequence 0 for a new index."""
        ...

    def apply(self, changes: Sequence[Change]) -> None:
        """Adds changes to the next commit: a document replaces what its docno had."""
        ...

    def commit(self, sequence: int) -> None:
        """Makes what was applied durable and visible, and the position ``sequence``, in one step."""
        ...

    def find_excerpts(self, query: ExcerptQuery, depth: int, filter: Filter | None) -> Excerpts:
        """Finds the beginnings of ``depth`` documents that match ``query`` and pass ``filter``."""
        ...

    def close(self) -> None:
        """Releases files and locks; what was not committed is dropped."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VectorChange:
    """One step of following the log for vectors.

    Attributes:
        docno: the document.
        version: sequence number of the write.
        vectors: float32, shape ``(passages, dimension)``, unit length, passage n in row n; None deletes.
            With no rows the document is known to the store but never found.
        fields: values of the filterable fields; empty for a deletion.
    """

    docno: Docno
    version: int
    vectors: NDArray[np.float32] | None
    fields: Fields


class DenseStore(Protocol):
    """Nearest vectors by cosine, one to many vectors a document.

    Raises RetrieverUnavailableError where the store cannot be reached or fails; a later call may succeed.
    """

    @property
    def problem(self) -> str | None:
        """Why the store does not answer now; None if it does. Known without asking it."""
        ...

    async def read_position(self) -> Position:
        """Reads what is durable; sequence 0 for a new store. Never ahead of the points on disk."""
        ...

    async def apply(self, changes: Sequence[VectorChange], sequence: int) -> None:
        """Makes changes visible: all passages of a docno are replaced. Durable only after ``flush``."""
        ...

    async def flush(self) -> Position:
        """Makes all that was applied durable, then the position; returns it."""
        ...

    async def find_nearest(
        self, vector: NDArray[np.float32], depth: int, filter: Filter | None
    ) -> list[Candidate]:
        """Finds the ``depth`` documents whose best passage is nearest to ``vector`` (unit length), best
        first.

        Each document once, scored by its best passage, ties by docno. Fewer only if no more pass ``filter``.
        """
        ...

    async def compute_similarities(
        self, vector: NDArray[np.float32], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        """Computes the exact score and the best passage of these documents.

        Those without vectors are left out.
        """
        ...

    async def read_vectors(self, docnos: Collection[Docno]) -> dict[Docno, NDArray[np.float32]]:
        """Reads the vectors of these documents as they are stored, shape ``(passages, dimension)``.

        A passage that is lost is a row of zeros; documents that the store does not have are left out.
        """
        ...

    def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        """Reads each document's version, in any order, those without passages included."""
        ...

    async def count(self) -> int:
        """Counts documents in the store."""
        ...

    async def erase(self) -> None:
        """Leaves nothing in its files of what was deleted before. Searches and writes go on meanwhile.

        A store whose files are another server's does nothing.
        """
        ...

    async def close(self) -> None:
        """Flushes, and releases files, processes and connections."""
        ...
