"""`quarry schema`: what a collection for files could look like."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from quarry_cli.console import count_things, note
from quarry_cli.failures import CliError, write_text
from quarry_cli.files.inference import InferredSchema, SchemaWishes, infer_schema
from quarry_cli.files.options import (
    DelimiterOption,
    EncodingOption,
    FilesArgument,
    FormatOption,
    IdFieldOption,
    ListSeparatorOption,
    MapOption,
    TextOption,
    TitleOption,
    parse_mapping,
)
from quarry_cli.files.reading import ReadOptions, read_files
from quarry_cli.files.record_reader import RecordReader
from quarry_cli.files.shaping import Shaper
from quarry_cli.files.source import Layout
from quarry_cli.views.schema import (
    format_toml,
    show_ids,
    show_layouts,
    show_schema,
    warn_of_binary,
    warn_of_unused,
)

app = typer.Typer(no_args_is_help=True, help="Find the schema that fits your files.")


@app.callback()
def schema() -> None:
    """Find the schema that fits your files."""


@app.command()
def suggest(
    files: FilesArgument,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write. Default: print it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
    format: FormatOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    list_separator: ListSeparatorOption = "",
    id_field: IdFieldOption = None,
    title: TitleOption = None,
    text: TextOption = None,
    map: MapOption = None,
) -> None:
    """Infer a schema from the first 1,000 records of files, and write it as TOML.

    `quarry collection create NAME --schema FILE` makes a collection of it. Change it before, if it is wrong.
    """
    if out is not None and out.is_file() and not force:
        raise CliError(f"{out} is there already", "--force overwrites it")
    layouts: list[Layout] = []
    rows = read_files(files, ReadOptions(format, delimiter, encoding), layouts.append)
    records = RecordReader(rows, Shaper(parse_mapping(map)), id_field, whole_sample=True)
    found = infer(records, SchemaWishes(title, tuple(text or ()), list_separator))
    show_inference(records, found, layouts)
    flags = [
        *(["--id-field", id_field] if id_field else []),
        *(f for pair in map or () for f in ("--map", pair)),
    ]
    flags += ["--list-separator", list_separator] if list_separator else []
    content = format_toml(found, describe_next_steps(out, files, flags))
    if out is None:
        typer.echo(content, nl=False)
        return
    write_text(out, content)
    note(f"written to {out}")


def infer(records: RecordReader, wishes: SchemaWishes) -> InferredSchema:
    """Infers the schema of what was read ahead. Raises CliError, also if there is nothing."""
    sample = records.sample_fields()
    if not sample:
        bad = records.first_problem
        raise CliError(f"{bad.where}: {bad.problem}" if bad else "the files hold no records")
    names = set(records.shaper.names.values()) - {records.id_name} - records.shaper.binary.keys()
    return infer_schema(sample, wishes, names)


def show_inference(records: RecordReader, found: InferredSchema, layouts: Sequence[Layout]) -> None:
    """Shows what the files are and what was inferred, on stderr."""
    show_layouts(layouts, all=True)
    note(f"the schema of the first {count_things(found.records, 'record')}:")
    show_schema(found, records.id_name, records.shaper.new_names)
    show_ids(records.ids)
    warn_of_binary(records.shaper)
    warn_of_unused(records.shaper)


def describe_next_steps(out: Path | None, files: Sequence[Path], flags: Sequence[str]) -> list[str]:
    """Describes the commands that use the schema."""
    named = shlex.join(str(file) for file in files)
    return [
        f"quarry collection create NAME --schema {shlex.quote(str(out or 'SCHEMA.toml'))}",
        f"quarry index NAME {named}{' ' + shlex.join(flags) if flags else ''}",
    ]
