"""Which fields the hits of a search are returned with."""

from collections.abc import Sequence

from quarry.collections.collection import OpenCollection
from quarry.errors import InvalidArgumentError
from quarry.schema import UnknownFields

NO_FIELDS = "-"


def parse_return_fields(names: Sequence[str]) -> frozenset[str] | None:
    """The fields to return; None for all."""
    if not names:
        return None
    return frozenset() if list(names) == [NO_FIELDS] else frozenset(names)


async def check_return_fields(names: Sequence[str], collection: OpenCollection) -> None:
    """Looks for ``names`` in the schema and, where it lets other fields be stored, in the documents.

    Raises:
        InvalidArgumentError: there is no field of this name.
    """
    schema = collection.collection.settings.schema
    missing = {name for name in parse_return_fields(names) or () if schema.get(name) is None}
    if missing and schema.unknown_fields is UnknownFields.STORE:
        missing = await collection.field_names.find_missing(missing)
    for index, name in enumerate(names):
        if name in missing:
            raise InvalidArgumentError(
                f"return_fields[{index}]", f"neither the schema nor a document has a field {name[:80]!r}"
            )
