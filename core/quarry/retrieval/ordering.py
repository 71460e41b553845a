"""The order of documents by the values of their fields: the request, its validation, and its meaning.

``sort_by_fields`` is the meaning. An index sorts in its engine's terms, and the tests hold it to this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from quarry.errors import DuplicateError, OutOfRangeError, UnknownFieldError, WrongTypeError
from quarry.schema import Schema
from quarry.types import FieldScalar

T = TypeVar("T")

MAX_ORDER_FIELDS = 4
"""That one search is ordered by."""
MAX_ORDERED = 100_000
"""Documents of a list that is ordered by fields."""


@dataclass(frozen=True, slots=True)
class OrderBy:
    """A field that documents are ordered by. Of several values of a document its first one counts."""

    field: str
    descending: bool = False


def check_order(order: Sequence[OrderBy], schema: Schema) -> None:
    """Checks the fields of an order, the most important one first.

    Raises:
        InvalidArgumentError: too many fields, one that the schema lacks, one that is text, or one that is
            there twice.
    """
    if len(order) > MAX_ORDER_FIELDS:
        raise OutOfRangeError("order_by", f"has {len(order)} fields, at most {MAX_ORDER_FIELDS} are allowed")
    seen: set[str] = set()
    for index, by in enumerate(order):
        path, field = f"order_by[{index}].field", schema.get(by.field)
        if field is None:
            raise UnknownFieldError(path, f"the schema has no field {by.field[:80]!r}")
        if not field.filterable:
            raise WrongTypeError(path, f"{by.field} is text, which has no order")
        if by.field in seen:
            raise DuplicateError(path, f"{by.field} is there twice")
        seen.add(by.field)


def sort_by_fields(
    items: Sequence[T], order: Sequence[OrderBy], read: Callable[[T, str], FieldScalar | None]
) -> list[T]:
    """Sorts ``items`` by their values, which ``read`` reads. Missing values are last either way.

    Strings are in the order of their UTF-8 bytes, and false before true. Equal items stay in their order.
    """
    ordered = list(items)
    for by in reversed(order):
        values = [(item, read(item, by.field)) for item in ordered]
        present = [pair for pair in values if pair[1] is not None]
        present.sort(key=lambda pair: _make_key(pair[1]), reverse=by.descending)
        ordered = [item for item, _ in present] + [item for item, value in values if value is None]
    return ordered


def _make_key(value: FieldScalar | None) -> Any:
    return value.encode() if isinstance(value, str) else value
