"""Reads settings, and writes them as TOML.

A TOML file is read first. `QUARRY_` variables override it, and arguments override those.
"""

import os
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python
from pydantic_settings import SettingsConfigDict
from rapidfuzz import process

from quarry.config import ENV_PREFIX, Settings
from quarry.errors import InvalidArgumentError

_CLIENT_VARIABLES = frozenset(
    {"QUARRY_SERVER", "QUARRY_USE_TLS", "QUARRY_TLS_CA", "QUARRY_TLS_CERT", "QUARRY_TLS_KEY"}
)
"""The command line's. They are matched whole: QUARRY_TLS_CERTIFICATE is a slip of who means the server's."""
_TEST_PREFIX = "QUARRY_TEST_"
_SECRETS = ("api_key",)
_WIDTH = 100


def load_settings(file: Path | None = None, **arguments: Any) -> Settings:
    """Loads settings from ``file``, over it the environment, over that ``arguments`` that are not None.

    Raises:
        InvalidArgumentError: a key is unknown (the nearest known one is named) or a value is wrong.
    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    if file is not None and not file.is_file():
        raise InvalidArgumentError(str(file), "is not a file")
    _check_environment()
    try:
        return FromFile(**{name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise _refuse_unknown(path, path, _list_known_keys(Settings)) from None
        raise InvalidArgumentError(path, first["msg"]) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(str(file), f"cannot be read: {error}") from None


def _check_environment() -> None:
    known = [ENV_PREFIX + key.upper().replace(".", "__") for key in _list_known_keys(Settings)]
    for name in os.environ:
        others = name in _CLIENT_VARIABLES or name.startswith(_TEST_PREFIX)
        if name.startswith(ENV_PREFIX) and name not in known and not others:
            raise _refuse_unknown(name, name, known)


def _refuse_unknown(path: str, key: str, known: list[str]) -> InvalidArgumentError:
    nearest = process.extractOne(key, known)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return InvalidArgumentError(path, f"is not a setting{hint}")


def _list_known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += _list_known_keys(info.annotation, f"{prefix}{name}.")
    return keys


def write_example() -> str:
    """Writes a TOML file with every setting, what it means, and its default behind a `#`."""
    return "\n".join(_write_example(Settings, "")) + "\n"


def write_settings(settings: Settings) -> str:
    """Writes the values in use as TOML. A key for Qdrant is not written."""
    return "\n".join(_write_values(settings.model_dump(mode="json"), "")) + "\n"


def _write_example(model: type[BaseModel], table: str) -> Iterator[str]:
    sections: list[tuple[str, type[BaseModel]]] = []
    yield from _write_comment(model.__doc__ or "")
    if table:
        yield f"[{table}]"
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            sections.append((_join_path(table, name), info.annotation))
            continue
        yield ""
        yield from _write_comment(info.description or "")
        yield f"# {_write_line(name, to_jsonable_python(info.default))}"
    for path, section in sections:
        yield "\n"
        yield from _write_example(section, path)


def _write_values(values: dict[str, Any], table: str) -> Iterator[str]:
    if table:
        yield f"\n[{table}]"
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    for name, value in plain.items():
        hidden = name in _SECRETS and value
        yield f"# {name} is set, and not shown" if hidden else _write_line(name, value)
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _write_values(value, _join_path(table, name))


def _join_path(table: str, name: str) -> str:
    return f"{table}.{name}" if table else name


def _write_line(name: str, value: object) -> str:
    """Writes a value: strings, numbers, booleans and lists of them are the same in JSON and in TOML."""
    return f"{name} = {orjson.dumps(value).decode()}"


def _write_comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH)]
