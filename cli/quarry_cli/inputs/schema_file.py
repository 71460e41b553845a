"""Schema files: TOML or JSON with the keys of the Schema message."""

import json
import tomllib
from pathlib import Path
from typing import Any

from rapidfuzz import process

from quarry.schema import FieldType, UnknownFields
from quarry.v1 import collection_service_pb2
from quarry_cli.failures import CliError

SCHEMA_KEYS = ("fields", "unknown_fields")
FIELD_KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "type": (str,),
    "boost": (int, float),
    "language": (str,),
    "searchable": (bool,),
    "embedded": (bool,),
    "is_title": (bool,),
}
KIND_NAMES: dict[tuple[type, ...], str] = {
    (str,): "a string",
    (int, float): "a number",
    (bool,): "true or false",
}


def read_schema(path: Path) -> collection_service_pb2.Schema:
    """Reads the schema that a file describes; the server checks what its values mean together.

    Raises:
        CliError: the file cannot be read, or a key or value is not one of a schema's.
    """
    content = _parse(path)
    try:
        return to_schema_message(content)
    except ValueError as error:
        raise CliError(f"{path}: {error}") from None


def to_schema_message(content: Any) -> collection_service_pb2.Schema:
    """Converts parsed TOML or JSON to the schema that it describes.

    Raises:
        ValueError: the message names the key, and the nearest that is known.
    """
    if not isinstance(content, dict):
        raise ValueError("is not an object with the key fields")
    _check_keys("", content, SCHEMA_KEYS)
    fields = content.get("fields")
    if not isinstance(fields, list):
        raise ValueError("fields: is not a list of fields")
    unknown = content.get("unknown_fields")
    return collection_service_pb2.Schema(
        fields=[_parse_field(f"fields[{i}]", field) for i, field in enumerate(fields)],
        unknown_fields=(
            collection_service_pb2.UNKNOWN_FIELDS_UNSPECIFIED
            if unknown is None
            else collection_service_pb2.UnknownFields.Value(
                f"UNKNOWN_FIELDS_{_choose_one('unknown_fields', unknown, tuple(UnknownFields)).upper()}"
            )
        ),
    )


def _parse(path: Path) -> Any:
    try:
        text = path.read_text("utf-8-sig")
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # all of both parsers' own errors are ValueErrors
        kind = "JSON" if path.suffix == ".json" else "TOML (JSON files end in .json)"
        raise CliError(f"{path}: is not {kind}: {error}") from None


def _parse_field(path: str, content: Any) -> collection_service_pb2.SchemaField:
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is not a field with name and type")
    _check_keys(path, content, tuple(FIELD_KEYS))
    for key in ("name", "type"):
        if key not in content:
            raise ValueError(f"{path}.{key}: is missing")
    for key, value in content.items():
        kinds = FIELD_KEYS[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(f"{path}.{key}: is {value!r:.80}, not {KIND_NAMES[kinds]}")
    kind = _choose_one(f"{path}.type", content["type"], tuple(FieldType))
    message = collection_service_pb2.SchemaField(**{k: v for k, v in content.items() if k != "type"})
    message.type = collection_service_pb2.SchemaFieldType.Value(f"SCHEMA_FIELD_TYPE_{kind.upper()}")
    return message


def _check_keys(path: str, content: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in content:
        if key not in known:
            where = f"{path}.{key}" if path else key
            raise ValueError(
                f"{where}: is not a key of a {'field' if path else 'schema'}{suggest(key, known)}"
            )


def _choose_one(path: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value.lower() not in known:
        hint = suggest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{path}: is {value!r:.80}, not one of {', '.join(known)}{hint}")
    return value.lower()


def suggest(word: str, known: tuple[str, ...]) -> str:
    """Suggests the nearest of ``known``, as ``; did you mean ...?``, or nothing if none is near."""
    found = process.extractOne(word, known, score_cutoff=60)
    return f"; did you mean {found[0]}?" if found else ""
