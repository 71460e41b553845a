"""Leaves one document of each group in a ranked list."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quarry.errors import WrongTypeError
from quarry.ranking.ranking import RankedDocument
from quarry.ranking.shaping import Collapse
from quarry.schema import as_list
from quarry.types import Docno, Document, FieldScalar


def read_group(collapse: Collapse, document: Document) -> FieldScalar | None:
    """Reads the value that names a document's group; None if it stands for itself.

    Raises WrongTypeError if it has several values.
    """
    values = as_list(document.fields.get(collapse.field))
    if len(values) > 1:
        raise WrongTypeError(
            "collapse.field",
            f"{document.id[:80]!r} has {len(values)} values of {collapse.field}, and a group has one",
        )
    return values[0] if values else None


def collapse_groups(
    documents: Sequence[RankedDocument], groups: Mapping[Docno, FieldScalar | None], members: int
) -> list[RankedDocument]:
    """Keeps the first document of each group, which says how many others there are and has the best of them.

    A pinned document is kept, too, if another one of its group is pinned above it.

    Args:
        groups: of each document that still exists.
        members: others that it has at most.
    """
    heads: list[list[RankedDocument]] = []
    places: dict[FieldScalar, list[RankedDocument]] = {}
    for document in documents:
        group = groups.get(document.docno)
        if group is not None and group in places and not document.shape.pinned:
            places[group].append(document)
            continue
        heads.append([document])
        if group is not None:
            places.setdefault(group, heads[-1])
    return [
        replace(head, shape=replace(head.shape, others=len(others), members=tuple(others[:members])))
        for head, *others in heads
    ]
