"""Options of `quarry search` that shape the list: boosts by fields, by age and by size, as they are typed."""

import math
import re
from datetime import timedelta

from quarry.v1 import search_service_pb2 as pb
from quarry_cli.inputs.values import FieldTypes
from quarry_cli.inputs.where import parse_where

DEFAULT_WEIGHT = 1.0
_AGE = re.compile(r"(\d{1,6})([smhdwy])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
_WEIGHT = re.compile(r"(.*):(\+?)(-?(?:\d+(?:\.\d*)?|\.\d+))", re.DOTALL)


def parse_boost(text: str, types: FieldTypes) -> pb.Boost:
    """Parses ``CONDITION[:WEIGHT]``, whose condition is one of ``--where``.

    A weight multiplies by ``1 + WEIGHT``; with ``+`` before it, or ``+-``, it is added. A number after the
    last colon is the weight, so a value that ends with one needs quotes.

    Raises ValueError, which says what is wrong.
    """
    condition, weight, mode = _split_weight(text)
    return pb.Boost(filter=parse_where(condition, types), weight=weight, mode=mode)


def parse_fresh(text: str) -> pb.Boost:
    """Parses ``FIELD:AGE[:WEIGHT]``; the age, such as ``30d``, is the half-life.

    Raises ValueError, which says what is wrong.
    """
    field, _, rest = text.partition(":")
    age, weight, mode = _split_weight(rest)
    found = _AGE.fullmatch(age)
    if not field or found is None:
        raise ValueError(f"{text!r} is not FIELD:AGE[:WEIGHT], such as updated:30d or updated:30d:0.5")
    boost = pb.Boost(weight=weight, mode=mode)
    boost.freshness.field = field
    boost.freshness.half_life.FromTimedelta(int(found[1]) * _UNITS[found[2]])
    return boost


def parse_popular(text: str) -> pb.Boost:
    """Parses ``FIELD:HALF[:WEIGHT]``; a number of the size HALF has half of the strength.

    Raises ValueError, which says what is wrong.
    """
    field, _, rest = text.partition(":")
    half, _, _ = rest.partition(":")
    what, weight, mode = _split_weight(rest)
    try:
        number = float(half)
    except ValueError:
        number = 0.0
    if not field or what != half or not 0 < number < math.inf:
        raise ValueError(f"{text!r} is not FIELD:HALF[:WEIGHT], such as views:1000 or rating:3.5:0.5")
    boost = pb.Boost(weight=weight, mode=mode)
    boost.popularity.field, boost.popularity.half = field, number
    return boost


def describe_boost(text: str, boost: pb.Boost) -> str:
    """Says what ``text``, as it was typed, was read as."""
    kind = boost.WhichOneof("kind")
    if kind == "filter":
        what = f"the condition {_split_weight(text)[0]}"
    else:
        what = f"the field {getattr(boost, kind or '').field}"
    return f"{text} was read as {what} with the weight {boost.weight:g}"


def _split_weight(text: str) -> tuple[str, float, pb.BoostMode.ValueType]:
    """Splits a weight off; a text without one has the default."""
    found = _WEIGHT.fullmatch(text)
    if found is None:
        return text, DEFAULT_WEIGHT, pb.BOOST_MODE_MULTIPLY
    mode = pb.BOOST_MODE_ADD if found[2] else pb.BOOST_MODE_MULTIPLY
    return found[1], float(found[3]), mode
