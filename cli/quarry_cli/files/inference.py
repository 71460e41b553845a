"""Infers the schema of a collection from the first records of files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quarry.schema import MAX_FIELDS, FieldType
from quarry.v1 import collection_service_pb2 as pb
from quarry_cli.failures import CliError
from quarry_cli.files.cell_hints import find_hint
from quarry_cli.files.shaping import to_field_name
from quarry_cli.files.value_kinds import find_type, fits_keyword
from quarry_cli.inputs.schema_file import suggest

TITLE = "title"
SURE_TITLES = (TITLE, "titulo", "titre", "titel", "titolo")
TITLES = (*SURE_TITLES, "name", "nombre", "nom", "nome", "subject", "heading", "headline")
"""Fields that are taken for the title by their name, in any case, without accents; the surest are first."""
LABEL_SHARE, MANY = 0.2, 20
"""Below this share of different values in that many, a ``subject`` is a label and no title."""


@dataclass(frozen=True, slots=True)
class SchemaWishes:
    """Wishes of a person for the schema.

    Attributes:
        title: the field that is the title; None: by its name.
        texts: the fields that are searched beside it; none: by their values.
        list_separator: between the values of one cell; empty: a cell is one value.
    """

    title: str | None = None
    texts: tuple[str, ...] = ()
    list_separator: str = ""


@dataclass(frozen=True, slots=True)
class InferredField:
    """One field.

    Attributes:
        type: what its values are.
        searched: TEXT: whether it is searched.
        is_title: whether it is the title.
        is_list: whether a record may have several values.
        filled: records that have a value.
        example: its first value.
        hint: what a person should know about its values; mostly empty.
    """

    name: str
    type: FieldType
    searched: bool
    is_title: bool
    is_list: bool
    filled: int
    example: Any
    hint: str = ""

    def to_message(self) -> pb.SchemaField:
        message = pb.SchemaField(
            name=self.name, type=pb.SchemaFieldType.Value(f"SCHEMA_FIELD_TYPE_{self.type.upper()}")
        )
        if self.is_title:
            message.is_title = True
        elif self.type is FieldType.TEXT and self.name == TITLE:
            message.is_title = False  # a field of that name is the title unless it says otherwise
        if self.type is FieldType.TEXT and not self.searched:
            message.searchable = message.embedded = False
        return message


@dataclass(frozen=True, slots=True)
class InferredSchema:
    """The fields of the first records.

    Attributes:
        records: how many there are.
        empty: names of fields without any value, which the schema lacks.
    """

    fields: tuple[InferredField, ...]
    records: int
    empty: tuple[str, ...] = ()

    def to_message(self) -> pb.Schema:
        return pb.Schema(
            fields=[field.to_message() for field in self.fields], unknown_fields=pb.UNKNOWN_FIELDS_REJECT
        )


def infer_schema(
    sample: Sequence[Mapping[str, Any]], wishes: SchemaWishes, names: Iterable[str] = ()
) -> InferredSchema:
    """Infers types from the values, and what is searched from types and names.

    Args:
        sample: fields of each record, its id left out.
        names: of all fields of the files, also of those without a value.

    Raises:
        CliError: a field that was named is not there, no field is searched, or there are too many.
    """
    columns: dict[str, list[Any]] = {}
    for one in sample:
        for name, value in one.items():
            columns.setdefault(name, []).append(value)
    filled = {name: values for name, values in columns.items() if flatten_values(values)}
    known = tuple(filled)
    title = None if wishes.title is None else find_named(wishes.title, known)
    texts = [find_named(name, known) for name in wishes.texts]
    found = [infer_field(name, values, wishes.list_separator) for name, values in filled.items()]
    title = title or find_title(found, filled)
    fields = tuple(apply_wishes(field, filled[field.name], title, texts) for field in found)
    _check(fields)
    objects = {name[:place] for name in filled for place, letter in enumerate(name) if letter == "."}
    empty = dict.fromkeys(name for name in (*columns, *names) if name and name not in {*filled, *objects})
    return InferredSchema(fields, len(sample), tuple(empty))


def _check(fields: Sequence[InferredField]) -> None:
    if not any(field.searched for field in fields):
        names = ", ".join(field.name for field in fields) or "none"
        raise CliError(
            f"no field looks like text that people search (fields: {names})", "--text FIELD names one"
        )
    if len(fields) > MAX_FIELDS:
        raise CliError(
            f"there are {len(fields)} fields, more than {MAX_FIELDS}", "--map NAME= leaves one out"
        )


def find_named(name: str, known: Sequence[str]) -> str:
    """Finds the field that an option names, also as the file calls it. Raises CliError if it is not there."""
    found = next((one for one in (name, to_field_name(name)) if one in known), None)
    if found is None:
        raise CliError(f"no record has a value of a field {name!r:.80}{suggest(name, tuple(known))}")
    return found


def infer_field(name: str, values: Sequence[Any], separator: str) -> InferredField:
    """Infers one field from the values that records have, each one or a list."""
    scalars, is_list = flatten_values(values), any(isinstance(value, list | tuple) for value in values)
    kind = find_type(name, scalars)
    if separator:
        parts = [part for value in values for part in split_cell(value, separator)]
        if len(parts) > len(scalars) and (split := find_type(name, parts)) is not FieldType.TEXT:
            kind, is_list, scalars = split, True, parts
    filled = sum(bool(flatten_values([value])) for value in values)
    hint = find_hint(name, kind, scalars, separator)
    return InferredField(name, kind, kind is FieldType.TEXT, False, is_list, filled, scalars[0], hint)


def flatten_values(values: Sequence[Any]) -> list[Any]:
    """Lists all values, those of lists one by one."""
    return [
        one
        for value in values
        for one in (value if isinstance(value, list | tuple) else (value,))
        if one is not None
    ]


def split_cell(value: Any, separator: str) -> list[Any]:
    """Splits a cell into its values, without white space around them; whatever is no string is one."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, list | tuple) else [value]
    return [part for piece in value.split(separator) if (part := piece.strip())]


def find_title(fields: Sequence[InferredField], values: Mapping[str, Sequence[Any]]) -> str | None:
    """Finds the field that is named like a title and can be one; None if there is none."""
    named = {to_field_name(field.name).casefold(): field for field in reversed(fields)}
    wanted = (named[name] for name in TITLES if name in named)
    return next((field.name for field in wanted if is_title_like(field, values[field.name])), None)


def is_title_like(field: InferredField, values: Sequence[Any]) -> bool:
    """Tells whether a field that is named like a title can be one: strings, and not a few labels."""
    if field.type not in (FieldType.TEXT, FieldType.KEYWORD):
        return False
    strings = {str(value) for value in flatten_values(values)}
    few = len(values) >= MANY and len(strings) < LABEL_SHARE * len(values)
    sure = to_field_name(field.name).casefold() in SURE_TITLES
    return sure or field.type is FieldType.TEXT or not few


def apply_wishes(
    field: InferredField, values: Sequence[Any], title: str | None, texts: Sequence[str]
) -> InferredField:
    """Makes a field text because it was named or is the title; with named texts, no other is searched."""
    if field.name == title or field.name in texts:
        is_title = field.name == title
        return replace(field, type=FieldType.TEXT, searched=True, is_title=is_title, hint="")
    if not texts or field.type is not FieldType.TEXT:
        return field
    if fits_keyword([str(value) for value in flatten_values(values)]):
        return replace(field, type=FieldType.KEYWORD, searched=False)
    return replace(field, searched=False)
