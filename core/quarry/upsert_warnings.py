"""Warnings of what is most likely a mistake in documents that were written, and their sentences."""

from dataclasses import dataclass
from enum import StrEnum

MAX_FIELDS_NAMED, MAX_IDS_NAMED = 20, 5
_ID_CHARACTERS = 80


class WarningKind(StrEnum):
    NO_SEARCHED_TEXT = "no_searched_text"
    UNKNOWN_FIELDS = "unknown_fields"


@dataclass(frozen=True, slots=True)
class UpsertWarning:
    """One kind of mistake in some documents.

    Attributes:
        documents: how many have it.
        fields: NO_SEARCHED_TEXT: those that are searched; UNKNOWN_FIELDS: those that the schema lacks. By
            name, at most 20.
        field_count: how many such fields there are.
        sample_ids: of the first such documents, at most 5.
    """

    kind: WarningKind
    documents: int
    fields: tuple[str, ...]
    field_count: int
    sample_ids: tuple[str, ...]

    def __str__(self) -> str:
        one = self.documents == 1
        named = ", ".join(self.fields) + (", ..." if self.field_count > len(self.fields) else "")
        ids = ", ".join(repr(id[:_ID_CHARACTERS]) for id in self.sample_ids)
        have = f"{self.documents:,} {'document has' if one else 'documents have'}"
        if self.kind is WarningKind.UNKNOWN_FIELDS:
            return (
                f"{have} fields that the schema does not name: {named} (such as {ids}). They are kept and "
                "returned, but nothing searches them and no filter reads them. Name them in the schema."
            )
        where = (
            f"in a field that is searched: {named}" if named else "in a field that is searched: there is none"
        )
        return (
            f"{have} no text {where} (such as {ids}). No query can find {'it' if one else 'them'}, by words "
            "or by meaning. Put the text into such a field, or name its own field as text in the schema."
        )

    def join(self, other: "UpsertWarning") -> "UpsertWarning":
        """Returns one warning for the documents of both, which are of one kind."""
        fields = sorted({*self.fields, *other.fields})
        return UpsertWarning(
            self.kind,
            self.documents + other.documents,
            tuple(fields[:MAX_FIELDS_NAMED]),
            max(len(fields), self.field_count, other.field_count),
            (self.sample_ids + other.sample_ids)[:MAX_IDS_NAMED],
        )
