"""Puts documents on top of a list that a search names, and leaves out others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from quarry.filters import Filter, matches
from quarry.ranking.ranking import NotPinned, RankedDocument
from quarry.ranking.score_scale import ScoreBasis
from quarry.ranking.shaping import Shaping
from quarry.search.resolving import Documents, read_in_parts
from quarry.types import Docno, Document


@dataclass(frozen=True, slots=True)
class NamedDocuments:
    """The documents that a search names, as they are now.

    Attributes:
        pinned: those that exist and pass the filter, in the order in which they were named, each as it stands
            on the list if nothing ranks it: with the score 0.
        not_pinned: ids of the others, and why.
        hidden: those that exist.
        passing: of the hidden ones, those that pass the filter: without being hidden they could be found.
    """

    pinned: Sequence[RankedDocument]
    not_pinned: Mapping[str, NotPinned]
    hidden: frozenset[Docno]
    passing: frozenset[Docno]


def read_named_documents(documents: Documents, shaping: Shaping, filter: Filter | None) -> NamedDocuments:
    """Finds the documents that are to be pinned or hidden, and reads them if there is a filter. Blocks."""
    named = [*shaping.pinned, *shaping.excluded, *filter_empty(shaping.like)]
    found = documents.find_docnos(named) if named else {}
    docnos = [docno for docno, _ in found.values()]
    passing = set(docnos)
    if filter is not None:
        read = read_in_parts(documents, docnos)
        passing = {document.docno for document in read if matches(filter, document.fields)}
    pinned = [
        RankedDocument(docno, id, version, 0.0, scored_by=ScoreBasis.PINNED)
        for id, (docno, version) in ((id, found[id]) for id in shaping.pinned if id in found)
        if docno in passing
    ]
    kept = {document.id for document in pinned}
    refused = {
        id: NotPinned.FILTERED if id in found else NotPinned.NOT_FOUND
        for id in shaping.pinned
        if id not in kept
    }
    hidden = frozenset(found[id][0] for id in {*shaping.excluded, shaping.like} if id in found)
    return NamedDocuments(pinned, refused, hidden, hidden & passing)


def find_hidden(documents: Documents, shaping: Shaping) -> frozenset[Docno]:
    """Finds the documents that are to be left out, of those that exist. Blocks."""
    found = documents.find_docnos(shaping.excluded) if shaping.excluded else {}
    return frozenset(docno for docno, _ in found.values())


def filter_empty(id: str) -> list[str]:
    return [id] if id else []


def pin_documents(
    documents: Sequence[RankedDocument], pinned: Sequence[RankedDocument]
) -> list[RankedDocument]:
    """Puts ``pinned`` on top, as they were ranked if they were."""
    wanted = {document.docno for document in pinned}
    ranked = {document.docno: document for document in documents if document.docno in wanted}
    top = [ranked.get(document.docno, document) for document in pinned]
    rest = [document for document in documents if document.docno not in wanted]
    return [*(replace(document, shape=replace(document.shape, pinned=True)) for document in top), *rest]


class HidingDocuments:
    """A log as if some of its documents did not exist, to whoever asks for numbers."""

    def __init__(self, documents: Documents, hidden: Collection[Docno]) -> None:
        self._documents, self._hidden = documents, frozenset(hidden)

    def read_ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        return self._documents.read_ids([docno for docno in docnos if docno not in self._hidden])

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]:
        return self._documents.read([docno for docno in docnos if docno not in self._hidden])

    def find_docnos(self, ids: Collection[str]) -> Mapping[str, tuple[Docno, int]]:
        found = self._documents.find_docnos(ids)
        return {id: place for id, place in found.items() if place[0] not in self._hidden}
