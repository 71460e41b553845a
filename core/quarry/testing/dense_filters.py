"""Fields, documents and filters that a dense store is tested with: every edge of every type."""

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from quarry.filters import AllOf, AnyOf, EqualTo, Exists, Filter, NoneOf, OneOf, Prefix, Range
from quarry.schema import MAX_INTEGER, MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, Field, FieldType
from quarry.types import Fields, FieldScalar

FIELDS = (
    Field("kw", FieldType.KEYWORD),
    Field("kw.part", FieldType.KEYWORD),  # a name that some engines read as a place in an object
    Field("num", FieldType.INTEGER),
    Field("real", FieldType.FLOAT),
    Field("flag", FieldType.BOOLEAN),
    Field("time", FieldType.TIMESTAMP),
)

WORDS = [
    "",
    "a",
    "A",
    "ab",
    "a\0",
    "a\0b",
    "\0",
    "b",
    "é",
    "e\u0301",
    "ß",
    "z",
    "\uffff",
    "\U0001f600",
    "\U0001f600x",
]
WORDS += ["550e8400-e29b-41d4-a716-446655440000", "2024-01-31", "true", "1", " a ", 'q"\\', "x" * 1_024]
INTEGERS = [0, 1, -1, 2, 10, MAX_INTEGER, -MAX_INTEGER, MAX_INTEGER - 1, 2**31, 2**32 + 1]
REALS = [0.0, 1.0, -1.0, 0.1, 0.1 + 2**-56, 1e308, -1e308, 5e-324, 2.0**53, 1 / 3]
TIMES = [0, 1, -1, MIN_TIMESTAMP_US, MIN_TIMESTAMP_US + 1, MAX_TIMESTAMP_US, MAX_TIMESTAMP_US - 1]
TIMES += [1_700_000_000_123_456, 1_700_000_000_123_457, -(10**16) - 1, -(10**16), 10**17, 10**17 + 1]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "kw": st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    "kw.part": st.sampled_from(WORDS[:6]),
    "num": st.sampled_from(INTEGERS) | st.integers(-MAX_INTEGER, MAX_INTEGER),
    "real": st.sampled_from(REALS) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    "flag": st.booleans(),
    "time": st.sampled_from(TIMES) | st.integers(MIN_TIMESTAMP_US, MAX_TIMESTAMP_US),
}
NAMES = st.sampled_from(sorted(VALUES))


@st.composite
def draw_documents(draw: st.DrawFn) -> Fields:
    """Draws fields with no value, an empty list, one value or several."""
    names = draw(st.sets(NAMES))
    return {name: draw(VALUES[name] | st.lists(VALUES[name], max_size=4)) for name in sorted(names)}


@st.composite
def draw_conditions(draw: st.DrawFn) -> Filter:
    name = draw(NAMES)
    value = VALUES[name]
    kinds: dict[str, Callable[[], Filter]] = {
        "equals": lambda: EqualTo(name, draw(value)),
        "in": lambda: OneOf(name, tuple(draw(st.lists(value, max_size=4)))),
        "exists": lambda: Exists(name),
        "prefix": lambda: Prefix("kw", draw(VALUES["kw"])),
        "range": lambda: draw_range(draw, name, value),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


def draw_range(draw: st.DrawFn, name: str, value: st.SearchStrategy[Any]) -> Filter:
    if name == "flag":  # it has no order
        return Exists(name)
    below, above = draw(
        st.sampled_from(
            [("gt", None), ("gte", None), (None, "lt"), (None, "lte"), ("gt", "lte"), ("gte", "lt")]
        )
    )
    return Range(name, **{side: draw(value) for side in (below, above) if side})


FILTERS = st.recursive(
    draw_conditions(),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda f: AllOf(tuple(f)))
        | st.lists(inner, max_size=3).map(lambda f: AnyOf(tuple(f)))
        | st.lists(inner, max_size=3).map(lambda f: NoneOf(tuple(f)))
    ),
    max_leaves=6,
)


EDGES: dict[str, tuple[FieldScalar, ...]] = {
    "kw": tuple(WORDS),
    "kw.part": tuple(WORDS[:6]),
    "num": tuple(INTEGERS),
    "real": tuple(REALS),
    "time": tuple(TIMES),
    "flag": (True, False),
}
"""The values at which each type is most likely to go wrong, by the field that holds them."""


def list_edges() -> Iterator[Fields]:
    """Lists one document for each edge, and some with no value or several."""
    yield {}
    yield {"kw": [], "num": [], "real": [], "flag": [], "time": []}
    for name, values in EDGES.items():
        for value in values:
            yield {name: value}
    yield {"flag": [True, False]}
    yield {"kw": ["a", "z"], "num": [1, 10], "real": [0.1, 1.0], "time": [0, 10**17]}


HELD = list(list_edges())


def list_edge_cases() -> Iterator[Filter]:
    yield from (
        AllOf(()),
        AnyOf(()),
        NoneOf((AllOf(()),)),
        NoneOf((AnyOf(()),)),
        OneOf("kw", ()),
        NoneOf((OneOf("num", ()),)),
        Prefix("kw", ""),
    )
    for name, values in EDGES.items():
        yield from (Exists(name), NoneOf((Exists(name),)))
        for value in values:
            yield from (
                EqualTo(name, value),
                NoneOf((EqualTo(name, value),)),
                OneOf(name, (value, values[0])),
            )
            if name != "flag":
                yield from (Range(name, **{side: value}) for side in ("gt", "gte", "lt", "lte"))
    for word in WORDS:
        yield from (Prefix("kw", word), Range("kw", gt="a", lt=word), Range("kw", gte=word, lte=word))
    yield from (Range("num", gt=1, lt=10), Range("real", gt=0.1, lt=1.0), Range("time", gt=0, lt=10**17))
