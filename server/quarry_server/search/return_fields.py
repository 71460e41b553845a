"""The fields that the hits of a search are returned with."""

from collections.abc import Sequence

from quarry.errors import UnknownFieldError
from quarry.schema import FIELD_NAME, Schema, UnknownFields

NO_FIELDS = "-"


def parse_return_fields(names: Sequence[str], schema: Schema) -> frozenset[str] | None:
    """Reads the fields to return; None for all.

    Raises:
        UnknownFieldError: no document can have a field of this name.
    """
    if not names:
        return None
    if list(names) == [NO_FIELDS]:
        return frozenset()
    stores_others = schema.unknown_fields is UnknownFields.STORE
    for index, name in enumerate(names):
        if schema.get(name) is None and not (stores_others and FIELD_NAME.fullmatch(name)):
            raise UnknownFieldError(f"return_fields[{index}]", f"no document can have a field {name[:80]!r}")
    return frozenset(names)
