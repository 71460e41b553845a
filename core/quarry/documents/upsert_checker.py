"""Looks at documents for what is right by the rules, and most likely not what was meant."""

from collections.abc import Iterable, Sequence

from quarry.schema import Schema, as_list
from quarry.types import Fields
from quarry.upsert_warnings import MAX_FIELDS_NAMED, MAX_IDS_NAMED, UpsertWarning, WarningKind


class UpsertChecker:
    """Looks at documents of one collection.

    Args:
        encoded: whether an encoder reads them.
    """

    def __init__(self, schema: Schema, encoded: bool) -> None:
        title = [schema.title] if schema.title and schema.title.embedded else []
        read = [*schema.searchable, *(schema.embedded if encoded else ()), *(title if encoded else ())]
        self._texts = sorted({field.name for field in read})
        self._known = frozenset(field.name for field in schema.fields)

    def find(self, documents: Iterable[tuple[str, Fields]]) -> list[UpsertWarning]:
        """Finds mistakes in documents, ids with checked fields; one warning a kind at most."""
        silent: list[str] = []
        strange: list[str] = []
        unknown: set[str] = set()
        for id, fields in documents:
            if not any(_has_text(fields, name) for name in self._texts):
                silent.append(id)
            if others := fields.keys() - self._known:
                strange.append(id)
                unknown |= others
        found = [
            _warn(WarningKind.NO_SEARCHED_TEXT, silent, self._texts),
            _warn(WarningKind.UNKNOWN_FIELDS, strange, sorted(unknown)),
        ]
        return [warning for warning in found if warning.documents]


def _has_text(fields: Fields, name: str) -> bool:
    return any(text.strip() for text in as_list(fields.get(name)))


def _warn(kind: WarningKind, ids: Sequence[str], fields: Sequence[str]) -> UpsertWarning:
    named = tuple(fields[:MAX_FIELDS_NAMED])
    return UpsertWarning(kind, len(ids), named, len(fields), tuple(ids[:MAX_IDS_NAMED]))
