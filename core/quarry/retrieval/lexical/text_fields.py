"""The scored text of a document: all of it as one, and boosted fields once more by themselves.

Over five collections one field for all the text, with the title added at a weight of 0.3, ranked better
than a sum over title and text at any weights: BM25 saturates each field by itself, so a sum counts twice
what stands in both (docs/explanation/benchmarks.md has the figures).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from quarry.schema import Schema


@dataclass(frozen=True, slots=True)
class TextField:
    """A field of the lexical index.

    Attributes:
        name: in the index; none of a schema begins with an underscore.
        sources: fields of the schema whose texts it holds, one after another.
        language: of their analyser.
        weight: what a match counts.
        boosted: it holds again what the field of all text holds already.
    """

    name: str
    sources: tuple[str, ...]
    language: str
    weight: float
    boosted: bool = False


def list_text_fields(schema: Schema) -> tuple[TextField, ...]:
    """Lists one field for each language, with all its text, and one for each boosted field."""
    languages = dict.fromkeys(field.language for field in schema.searchable)
    whole = (
        TextField(
            f"_text_{language}",
            tuple(f.name for f in schema.searchable if f.language == language),
            language,
            1.0,
        )
        for language in languages
    )
    boosted = (
        TextField(f.name, (f.name,), f.language, f.boost, boosted=True) for f in schema.searchable if f.boost
    )
    return (*whole, *boosted)


def list_own_fields(schema: Schema) -> dict[str, TextField]:
    """Lists, by each searched field of the schema, the field of the index that holds its text alone."""
    single = {field.sources[0]: field for field in list_text_fields(schema) if len(field.sources) == 1}
    return {
        f.name: replace(single[f.name], weight=1.0)
        if f.name in single
        else TextField(f.name, (f.name,), f.language, 1.0)
        for f in schema.searchable
    }


def list_indexed_fields(schema: Schema) -> tuple[TextField, ...]:
    """Lists all fields of analysed text: those that a plain query searches, then those that only a query
    with field names does."""
    scored = list_text_fields(schema)
    names = {field.name for field in scored}
    return (*scored, *(field for field in list_own_fields(schema).values() if field.name not in names))


def name_surface_field(name: str) -> str:
    """Names the field of the index with the words of the schema's field ``name`` as they are written."""
    return f"_surface_{name}"


def scale_boosts(fields: Iterable[TextField], boost_scale: float) -> tuple[TextField, ...]:
    """Multiplies all boosts of the fields by ``boost_scale``; at 0 the boosted ones count for nothing."""
    changed = (replace(f, weight=f.weight * boost_scale) if f.boosted else f for f in fields)
    return tuple(field for field in changed if field.weight)
