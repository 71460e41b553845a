"""Hypothesis strategies for documents and filters that often meet, edge values included."""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from quarry.filters import AllOf, AnyOf, EqualTo, Exists, Filter, NoneOf, OneOf, Prefix, Range
from quarry.schema import (
    MAX_INTEGER,
    MAX_KEYWORD_BYTES,
    MAX_TIMESTAMP_US,
    MIN_TIMESTAMP_US,
    Field,
    FieldType,
    Schema,
)
from quarry.types import Fields, FieldScalar, FieldValue

FILTER_SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, boost=2.0, is_title=True),
        Field("text", FieldType.TEXT),
        Field("tag", FieldType.KEYWORD),
        Field("maker.name", FieldType.KEYWORD),
        Field("count", FieldType.INTEGER),
        Field("price", FieldType.FLOAT),
        Field("sale", FieldType.BOOLEAN),
        Field("time", FieldType.TIMESTAMP),
    )
)
"""One field of each type, one with a dot in its name, and two that are searched."""

VALUES: dict[FieldType, tuple[FieldScalar, ...]] = {
    FieldType.TEXT: ("", "red shoe", "Red, red wine!", "the blue shoes", "émigré ＡＢＣ", "\x00 shoe"),
    FieldType.KEYWORD: (
        "", "a", "A", "ab", "a\x00", "a\nb", "a.*", "a b", "AND", "[a TO b]", '"', "\\", "é", "e\u0301",
        "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "k" * MAX_KEYWORD_BYTES,
        "k" * (MAX_KEYWORD_BYTES - 1),
    ),
    FieldType.INTEGER: (0, 1, -1, 2, 10, MAX_INTEGER, MAX_INTEGER - 1, -MAX_INTEGER),
    FieldType.FLOAT: (0.0, 1.0, -1.0, 0.1, 0.1 + 2**-55, 5e-324, -5e-324, 1.7976931348623157e308, -2.5e-3),
    FieldType.BOOLEAN: (False, True),
    FieldType.TIMESTAMP: (0, 1, -1, 999_999, 1_000_000, MIN_TIMESTAMP_US, MAX_TIMESTAMP_US),
}  # fmt: skip
"""Few values a type, so that documents and filters meet; the ends of each range among them."""


def draw_values(kind: FieldType) -> SearchStrategy[FieldScalar]:
    """Draws one value of this type, as it is stored."""
    return st.sampled_from(VALUES[kind])


def draw_documents(schema: Schema) -> SearchStrategy[Fields]:
    """Draws the fields of a document, each missing, single or a list of up to three values."""
    return st.fixed_dictionaries(
        {}, optional={field.name: _draw_field_value(field) for field in schema.fields}
    )


def draw_filters(schema: Schema) -> SearchStrategy[Filter]:
    """Draws checked filters over every filterable field, up to three levels of AllOf, AnyOf and NoneOf."""
    conditions = st.one_of([_draw_condition(field) for field in schema.filterable])
    return st.recursive(conditions, _combine, max_leaves=6)


def _draw_field_value(field: Field) -> SearchStrategy[FieldValue]:
    one = draw_values(field.type)
    several: SearchStrategy[FieldValue] = st.lists(one, max_size=3)  # type: ignore[assignment]  # of one type
    return one | several


def _combine(inner: SearchStrategy[Filter]) -> SearchStrategy[Filter]:
    some = st.lists(inner, max_size=3).map(tuple)
    return st.builds(AllOf, some) | st.builds(AnyOf, some) | st.builds(NoneOf, some)


def _draw_condition(field: Field) -> SearchStrategy[Filter]:
    one, name = draw_values(field.type), st.just(field.name)
    choices: list[SearchStrategy[Filter]] = [
        st.builds(EqualTo, name, one),
        st.builds(OneOf, name, st.lists(one, max_size=3).map(tuple)),
        st.builds(Exists, name),
    ]
    if field.type is not FieldType.BOOLEAN:
        choices.append(_draw_range(field.name, one))
    if field.type is FieldType.KEYWORD:
        prefixes = st.builds(_cut, one, st.integers(0, 2) | st.just(MAX_KEYWORD_BYTES))
        choices.append(st.builds(Prefix, name, prefixes))
    return st.one_of(choices)


def _cut(value: FieldScalar, length: int) -> str:
    return str(value)[:length]


def _draw_range(name: str, one: SearchStrategy[FieldScalar]) -> SearchStrategy[Filter]:
    def draw_side(*names: str) -> SearchStrategy[dict[str, FieldScalar]]:
        return st.one_of([st.fixed_dictionaries({bound: one}) for bound in names])

    low, high = draw_side("gt", "gte"), draw_side("lt", "lte")
    both = st.builds(lambda a, b: a | b, low, high)
    build: Callable[[dict[str, FieldScalar]], Filter] = lambda bounds: Range(name, **bounds)  # noqa: E731
    return (low | high | both).map(build)
