"""Writes the pages of docs/reference that are made of the code.

They are the command line, the settings, the API, the errors, the glossary, the limits and the mining presets.

python tools/reference.py [OUT]   by default into docs/reference
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from reference_limits import write_limits
from reference_presets import write_presets
from typer.main import get_command

from quarry.config_files import write_example
from quarry.glossary import TERMS
from quarry_cli.main import app

ROOT = Path(__file__).resolve().parent.parent
MESSAGES, ENUMS, SERVICES = 4, 5, 6
"""Numbers of these lists in a FileDescriptorProto: the first part of a comment's path."""
FIELDS, VALUES, METHODS = 2, 2, 2
ERRORS, REASON_PREFIX = "quarry/v1/errors.proto", "ERROR_REASON_"
ABOUT_ERRORS = (
    "# Errors\n"
    "A call that fails has a status code, and one `google.rpc.ErrorInfo` of the domain `quarry` among "
    "the details of its status. The code says what kind of thing went wrong; `reason` says which, for "
    "programs. The message is for people and may change. A document or an event that is refused in a "
    "batch has the same in its own status, and so has an operation that failed.\n\n"
    "| what you get | where | example |\n"
    "|---|---|---|\n"
    "| status code | the call | `INVALID_ARGUMENT` |\n"
    "| `reason` | `ErrorInfo.reason` | `VALUE_OUT_OF_RANGE` |\n"
    "| path of the field | `BadRequest.field_violations`, and `field` in `ErrorInfo.metadata` | "
    "`filter.all_of.filters[0].range.gt` |\n"
    "| when to try again | `RetryInfo.retry_delay`, with `UNAVAILABLE` alone | 1 s |\n\n"
    "Reasons are added over time. A client that does not know a reason goes by the status code, which "
    "is enough to act on: each reason belongs to one code. [The Python "
    "client](../how-to/call-from-python.md#errors) has "
    "both as attributes of its error, and `quarry` prints both. `quarry.v1.ErrorReason` lists the "
    "reasons for programs, each with `ERROR_REASON_` before it."
)
SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in FieldDescriptorProto.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}


def write_cli() -> str:
    """Writes the help of every command, as typer writes it."""
    get_command(app)  # a broken command fails here, not in the page
    command = [sys.executable, "-m", "typer", "quarry_cli.main", "utils", "docs", "--name", "quarry"]
    page = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return page.replace("# `quarry`", "# Command line", 1).rstrip() + "\n"


def write_configuration() -> str:
    return (
        "# Configuration\n"
        "`quarry serve --config FILE` reads settings from a TOML file. An environment variable overrides the "
        "file, such as `QUARRY_PORT=50052` or, for a table, `QUARRY_SEARCH__THREADS=8`. An option of "
        "`quarry serve` overrides both. A key that does not exist is an error, which names the nearest one "
        "that does.\n\n"
        "`quarry config --example` prints this page's file, and `quarry config --config FILE` prints what a "
        "server would start with.\n\n"
        f"```toml\n{write_example()}```\n"
    )


def write_glossary() -> str:
    head = (
        "# Glossary\n"
        "These are the words of the field, and a few of Quarry's own. Pages and reports link here.\n"
    )
    return head + "".join(f"\n## {name}\n{meaning}\n" for name, meaning in TERMS.items())


def write_limits_page() -> str:
    return write_limits(_read_comments("Limits"))


def write_api() -> str:
    """Writes services with their calls first, then messages and enums by name."""
    files = _read_files()
    lines = ["# gRPC API", "The package is `quarry.v1`; `protos/quarry/v1` holds the sources.", ""]
    for file in files:
        for place, service in enumerate(file.proto.service):
            lines += _write_service(file, place, service)
    lines += ["## Messages", ""]
    messages = [
        (".".join(names), file, path, message)
        for file in files
        for place, message in enumerate(file.proto.message_type)
        for names, path, message in _walk_messages(message, (MESSAGES, place), ())
    ]
    for name, file, path, message in sorted(messages, key=lambda each: each[0]):
        lines += _write_message(file, path, name, message)
    lines += ["## Enums", ""]
    enums = [
        (enum.name, file, (ENUMS, place), enum)
        for file in files
        for place, enum in enumerate(file.proto.enum_type)
    ]
    for _, file, path, enum in sorted(enums, key=lambda each: each[0]):
        lines += _write_enum(file, path, enum)
    return "\n".join(lines).rstrip() + "\n"


def write_errors() -> str:
    """Writes the reasons of errors by status code: each group's comment stands above its first reason."""
    file = next(file for file in map(_Commented, _list_descriptors().file) if file.proto.name == ERRORS)
    (enum,) = file.proto.enum_type
    lines = [ABOUT_ERRORS]
    for place, value in enumerate(enum.value):
        path = (ENUMS, 0, VALUES, place)
        if group := file.read_detached_comment(*path):
            code, about = group.split(": ", 1)
            lines += ["", f"## {code}", f"{about[0].upper()}{about[1:]}", "", "| reason | |", "|---|---|"]
        if value.number:
            lines.append(f"| `{value.name.removeprefix(REASON_PREFIX)}` | {file.read_comment(*path)} |")
    return "\n".join(lines) + "\n"


class _Commented:
    """A proto file, and the comment before each of its parts."""

    def __init__(self, proto: FileDescriptorProto) -> None:
        self.proto = proto
        self._comments = {
            tuple(place.path): place.leading_comments or place.trailing_comments
            for place in proto.source_code_info.location
        }
        self._detached = {
            tuple(place.path): " ".join(place.leading_detached_comments)
            for place in proto.source_code_info.location
        }

    def read_comment(self, *path: int) -> str:
        """Returns the comment of a part, without the lines that are for buf."""
        lines = self._comments.get(path, "").splitlines()
        return " ".join(" ".join(line for line in lines if "buf:lint:" not in line).split())

    def read_detached_comment(self, *path: int) -> str:
        """Returns the comments above a part that an empty line keeps apart from it."""
        return " ".join(self._detached.get(path, "").split())


def _read_files() -> "list[_Commented]":
    return [_Commented(file) for file in _list_descriptors().file if file.package == "quarry.v1"]


def _read_comments(message: str) -> dict[str, str]:
    """Reads what the API says of each field of a message that stands at the top of a file."""
    return {
        field.name: file.read_comment(MESSAGES, place, FIELDS, number)
        for file in _read_files()
        for place, found in enumerate(file.proto.message_type)
        if found.name == message
        for number, field in enumerate(found.field)
    }


def _list_descriptors() -> FileDescriptorSet:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.binpb"
        subprocess.run([sys.executable, ROOT / "tools" / "protos.py", "image", str(image)], check=True)
        return FileDescriptorSet.FromString(image.read_bytes())


def _write_service(file: _Commented, place: int, service: ServiceDescriptorProto) -> Iterator[str]:
    yield from (f"## {service.name}", file.read_comment(SERVICES, place), "")
    for number, method in enumerate(service.method):
        sent, got = (
            f"{'stream of ' if streams else ''}{_link(type_name)}"
            for streams, type_name in (
                (method.client_streaming, method.input_type),
                (method.server_streaming, method.output_type),
            )
        )
        yield from (f"### {service.name}.{method.name}", f"{sent} → {got}", "")
        yield from (file.read_comment(SERVICES, place, METHODS, number), "")


def _walk_messages(
    message: DescriptorProto, path: tuple[int, ...], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...], DescriptorProto]]:
    if message.options.map_entry:
        return
    names = (*above, message.name)
    yield names, path, message
    for place, inner in enumerate(message.nested_type):
        yield from _walk_messages(inner, (*path, 3, place), names)


def _write_message(
    file: _Commented, path: tuple[int, ...], name: str, message: DescriptorProto
) -> Iterator[str]:
    yield from (f"### {name}", file.read_comment(*path), "")
    if not message.field:
        yield from ("It has no fields.", "")
        return
    yield from ("| field | type | |", "|---|---|---|")
    for place, field in enumerate(message.field):
        comment = file.read_comment(*path, FIELDS, place).replace("|", "\\|")
        if field.HasField("oneof_index") and not field.proto3_optional:
            comment = f"One of `{message.oneof_decl[field.oneof_index].name}`. {comment}"
        yield f"| `{field.name}` | {_name_type(message, field)} | {comment} |"
    yield ""


def _name_type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    entry = next((one for one in message.nested_type if field.type_name.endswith(f".{one.name}")), None)
    if entry is not None and entry.options.map_entry:
        key, value = (_name_type(entry, part) for part in entry.field)
        return f"map of {key} to {value}"
    name = SCALARS.get(field.type) or _link(field.type_name)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"{name}, optional" if field.proto3_optional else name


def _write_enum(file: _Commented, path: tuple[int, ...], enum: EnumDescriptorProto) -> Iterator[str]:
    yield from (f"### {enum.name}", file.read_comment(*path), "", "| value | |", "|---|---|")
    for place, value in enumerate(enum.value):
        yield f"| `{value.name}` | {file.read_comment(*path, VALUES, place)} |"
    yield ""


def _link(type_name: str) -> str:
    name = type_name.removeprefix(".quarry.v1.")
    if name == type_name:
        return f"`{type_name.removeprefix('.')}`"
    return f"[{name}](#{name.lower().replace('.', '')})"


PAGES = {
    "cli.md": write_cli,
    "configuration.md": write_configuration,
    "api.md": write_api,
    "errors.md": write_errors,
    "glossary.md": write_glossary,
    "limits.md": write_limits_page,
    "mining-presets.md": write_presets,
}


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference"
    out.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (out / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
