"""An inferred schema as a table for people and as TOML for `quarry collection create --schema`."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from quarry.schema import FieldType
from quarry_cli.console import count_things, err, make_plain, note, warn
from quarry_cli.files.ids import IdRule
from quarry_cli.files.inference import InferredField, InferredSchema
from quarry_cli.files.shaping import Shaper
from quarry_cli.files.source import Layout
from quarry_cli.inputs.schema_file import suggest

TYPE_NAMES = {
    FieldType.TEXT: "text",
    FieldType.KEYWORD: "keyword",
    FieldType.INTEGER: "whole number",
    FieldType.FLOAT: "number",
    FieldType.BOOLEAN: "true or false",
    FieldType.TIMESTAMP: "date",
}
EXAMPLE_CHARACTERS = 48


def show_layouts(layouts: Sequence[Layout], all: bool) -> None:
    """Says what the files are; without ``all`` only what nobody would expect, and what is a mistake."""
    for layout in layouts:
        if all or layout.unusual:
            note(f"{layout.file}: {layout.text}")
        if layout.warning:
            warn(f"{layout.file}: {layout.warning}")


def show_ids(ids: IdRule) -> None:
    """Says what the ids are, unless it goes without saying."""
    if ids.reason:
        note(f"ids: {ids.reason}; --id-field names another field")
    if not ids.keys:
        warn("a record that changes becomes another document, and the old one stays")


def warn_of_unused(shaper: Shaper) -> None:
    """Says which names ``--map`` gives and no record has."""
    for old in shaper.unused_names:
        warn(f"no record has the field {old!r:.80} that --map names{suggest(old, tuple(shaper.names))}")


def warn_of_binary(shaper: Shaper) -> None:
    """Says which fields hold binary values, which are left out."""
    for name, count in shaper.binary.items():
        warn(f"{name} holds {count_things(count, 'binary value')}, which no field can have: left out")


def show_schema(schema: InferredSchema, id_name: str, new_names: dict[str, str]) -> None:
    """Shows each field on stderr: what it is, in how many records, and its first value.

    Args:
        id_name: the field that is the id; empty for a hash.
        new_names: of fields, by those of the file, where nobody asked for them.
    """
    table = Table.grid(padding=(0, 2))
    table.add_row(*(make_plain(text, "dim") for text in ("field", "is", "in records", "for example")))
    table.add_row(make_plain(id_name or "(none)"), "id" if id_name else "id: a hash of the content")
    for field in schema.fields:
        table.add_row(
            make_plain(field.name, "bold" if field.searched else ""),
            describe_field(field),
            f"{field.filled:,} of {schema.records:,}",
            make_plain(shorten(field.example)),
        )
    err.print(table)
    if schema.empty:
        note(f"left out, for no record has a value: {', '.join(schema.empty)}")
    for old, new in new_names.items():
        note(f"{old} is the field {new}")
    if not any(field.is_title for field in schema.fields):
        note("no field is named like a title; --title FIELD says which one is it")
    for field in schema.fields:
        if field.hint:
            warn(field.hint)


def describe_field(field: InferredField) -> str:
    """Describes a field in a few words, such as ``title, searched`` or ``keyword, list``."""
    if field.is_title:
        parts = ["title", "searched"]
    elif field.type is FieldType.TEXT:
        parts = ["searched text" if field.searched else "text, not searched"]
    else:
        parts = [TYPE_NAMES[field.type]]
    return ", ".join([*parts, *(["list"] if field.is_list else [])])


def shorten(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"


def format_toml(schema: InferredSchema, next_steps: Sequence[str]) -> str:
    """Formats the schema as TOML, with ``next_steps`` as comments above it."""
    return "".join(f"{line}\n" for line in _write_lines(schema, next_steps))


def _write_lines(schema: InferredSchema, next_steps: Sequence[str]) -> Iterator[str]:
    yield from (f"# {step}" for step in next_steps)
    yield 'unknown_fields = "reject"  # or "store": keep fields that are not named here'
    yield "fields = ["
    for field in schema.fields:
        message = field.to_message()
        parts = {"name": field.name, "type": str(field.type)}
        settings = {
            key: getattr(message, key)
            for key in ("is_title", "searchable", "embedded")
            if message.HasField(key)
        }
        written = ", ".join(f"{key} = {json.dumps(value)}" for key, value in (parts | settings).items())
        yield f"    {{ {written} }},"
    yield "]"
