"""`quarry index`: documents from files into a collection."""

import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import grpc
import typer
from rich.progress import DownloadColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from quarry.client import Client, QuarryCallError
from quarry.client.upsert_warnings import WarningCounts
from quarry.client.upserts import Response
from quarry.errors import QuarryError
from quarry.v1 import collection_service_pb2
from quarry_cli.calls.visibility import Writes, wait_searchable
from quarry_cli.commands.schema import infer, show_inference
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import (
    as_json,
    count_things,
    make_progress,
    note,
    out,
    print_json,
    replace_controls,
    say,
    warn,
)
from quarry_cli.failures import CliError
from quarry_cli.files.batches import Failures, FileBatch, FilePacker
from quarry_cli.files.inference import SchemaWishes
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
from quarry_cli.files.reading import ReadOptions, measure_file, read_files
from quarry_cli.files.record_reader import RecordReader
from quarry_cli.files.shaping import Shaper
from quarry_cli.files.source import Layout
from quarry_cli.inputs.values import list_field_types
from quarry_cli.views.schema import shorten, show_ids, show_layouts, warn_of_binary, warn_of_unused

UPSERT_S = 120.0
CREATE_S = 300.0
"""Longest wait for an acknowledgement, and for a collection: a first use of a model exports it."""

WARNED = 3
"""Exit status: all was written, and most likely not as it was meant."""


class Wait(StrEnum):
    LOGGED = "logged"
    SEARCHABLE = "searchable"


@dataclass(slots=True)
class Summary:
    """The result of reading the files.

    Attributes:
        documents: written.
        failed: not written.
        writes: what was written; in JSON, ``sequence`` is that of the last write.
        seconds: wall clock, the wait included.
        reached: how far the writes had come at the end.
        warnings: what about the written documents is most likely a mistake.
        repeated: records with the id of an earlier one of the files, in whose place they are.
        not_numbers: values that were NaN, and were left out.
        first_repeats: the first few ids that were there before, and where they stand.
    """

    collection: str
    documents: int = 0
    failed: int = 0
    seconds: float = 0
    reached: Wait = Wait.LOGGED
    warnings: WarningCounts = field(default_factory=WarningCounts)
    repeated: int = 0
    not_numbers: int = 0
    first_repeats: list[tuple[str, str]] = field(default_factory=list)
    writes: Writes = field(default_factory=Writes)

    @property
    def sequence(self) -> int:
        return self.writes.last

    def take(self, batch: FileBatch, response: Response, failures: Failures) -> None:
        written = 0
        for place, status in zip(batch.places, response.statuses, strict=True):
            if status.status.code:
                failures.add(place, status.id, status.status.message)
            else:
                written += 1
        self.documents += written
        self.writes.add(written, response.result.sequence)
        self.warnings.add(response.warnings)


class DocumentRate(ProgressColumn):
    """Documents acknowledged in a second."""

    def render(self, task: Task) -> Text:
        rate = task.fields["documents"] / task.elapsed if task.elapsed else 0
        return Text(f"{count_things(task.fields['documents'], 'document')}, {format_rate(rate)}")


def format_rate(rate: float) -> str:
    """Formats documents in a second, slow ones with two digits: ``1,234/s``, ``0.41/s``."""
    return f"{rate:,.0f}/s" if rate >= 10 or not rate else f"{rate:.2g}/s"


def index(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    files: FilesArgument,
    create: Annotated[
        bool,
        typer.Option(
            "--create", help="Make the collection if there is none, with a schema that fits the files."
        ),
    ] = False,
    title: TitleOption = None,
    text: TextOption = None,
    id_field: IdFieldOption = None,
    map: MapOption = None,
    list_separator: ListSeparatorOption = "",
    format: FormatOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    wait: Annotated[
        Wait | None,
        typer.Option(
            help="How far writes must have come: on disk, or found by searches. "
            "Default: logged; searchable with --create."
        ),
    ] = None,
    batch_bytes: Annotated[int, typer.Option(min=1_024, max=32 * 2**20, help="Largest batch, in bytes.")] = 2
    ** 20,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Index documents from files, replacing those of the same id.

    JSON lines as BEIR has them (_id, title, text; other keys become fields), JSON arrays, CSV and TSV with a
    header, and Parquet; .gz, .bz2, .xz and .zst are unpacked. Values take the type of the collection's field.
    Times are ISO 8601 (UTC unless they say otherwise) or numbers of seconds since 1970. Exit status 3 means
    that all was written, and that no query can find some of it, or that nothing reads some fields.

    With --create the first 1,000 records say what the fields are. The schema is shown before anything is
    written, and --title and --text change what is searched.
    """
    if not create and (title or text):
        raise typer.BadParameter("--title and --text say what a new collection searches: add --create")
    wishes = SchemaWishes(title, tuple(text or ()), list_separator)
    reading = Reading(files, ReadOptions(format, delimiter, encoding), parse_mapping(map), id_field)
    failures, summary = Failures(), Summary(name)
    start = time.monotonic()
    with connect(server, timeout, default_timeout_s=UPSERT_S) as quarry:
        made = create and create_missing(quarry, name, reading, wishes, timeout)
        write_files(quarry, reading, Conversion(batch_bytes, list_separator, made), summary, failures)
        if (wait or (Wait.SEARCHABLE if made else Wait.LOGGED)) is Wait.SEARCHABLE and summary.sequence:
            wait_searchable(quarry, name, summary.writes)
            summary.reached = Wait.SEARCHABLE
    summary.seconds, summary.failed = round(time.monotonic() - start, 3), failures.count
    report(summary, failures, json)


@dataclass(slots=True)
class Reading:
    """The files of one command, and how they are read.

    Attributes:
        layouts: of the files that were opened so far.
    """

    files: list[Path]
    options: ReadOptions = ReadOptions()  # noqa: RUF009  # frozen
    mapping: dict[str, str] = field(default_factory=dict)
    id_field: str | None = None
    layouts: list[Layout] = field(default_factory=list)
    _records: RecordReader | None = None

    def open_records(self, whole_sample: bool = False) -> RecordReader:
        """Opens the files, the first time, and reads their first records ahead. Raises CliError."""
        if self._records is None:
            rows = read_files(self.files, self.options, self.layouts.append)
            self._records = RecordReader(rows, Shaper(self.mapping), self.id_field, whole_sample)
        return self._records


@dataclass(frozen=True, slots=True)
class Conversion:
    """The way from values of files to those of documents: see ``FilePacker``."""

    batch_bytes: int
    list_separator: str = ""
    exact: bool = False


def create_missing(
    quarry: Client, name: str, reading: Reading, wishes: SchemaWishes, timeout: float | None
) -> bool:
    """Makes the collection, after its schema has been shown. Returns whether there was none.

    Raises:
        CliError: there is one, and ``wishes`` ask for another; or nothing can be inferred.
    """
    try:
        read_collection(quarry, name)
    except QuarryCallError as error:
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise
    else:
        if wishes.title or wishes.texts:
            raise CliError(
                f"{name} is there already, and --title and --text say how to make a new one",
                f"`quarry collection delete {name}` deletes it, or leave them out",
            )
        note(f"{name} is there already: its own schema holds")
        return False
    records = reading.open_records(whole_sample=True)
    found = infer(records, wishes)
    show_inference(records, found, reading.layouts)
    wanted = collection_service_pb2.Collection(name=name, schema=found.to_message())
    request = collection_service_pb2.CreateCollectionRequest(collection=wanted, request_id=str(uuid4()))
    quarry.collections.CreateCollection(request, timeout=timeout or CREATE_S)
    note(
        f"made the collection {name}; `quarry schema suggest` writes its schema to a file that you can change"
    )
    return True


def write_files(
    quarry: Client, reading: Reading, conversion: Conversion, summary: Summary, failures: Failures
) -> None:
    """Writes all documents of the files, under a progress bar."""
    name = summary.collection
    types = list_field_types(read_collection(quarry, name).schema)
    records = reading.open_records()
    if not conversion.exact:  # otherwise it was all said
        show_ids(records.ids)
    packer = FilePacker(types, conversion.batch_bytes, failures, conversion.list_separator, conversion.exact)
    total = sum(map(measure_file, reading.files)) or None
    with make_progress(DownloadColumn(), DocumentRate(), TimeRemainingColumn()) as bar:
        task = bar.add_task("indexing", total=total, documents=0)
        batches = packer.pack(records)
        try:
            for batch, response in quarry.upsert_batches(name, batches, timeout_s=quarry.timeout_s):
                summary.take(batch, response, failures)
                bar.update(task, completed=batch.position, documents=summary.documents)
        except (CliError, QuarryError, KeyboardInterrupt):  # the file cannot be read, or the server is away
            if summary.documents:
                written = count_things(summary.documents, "document was", "documents were")
                note(f"at least {written} written; it is safe to index again")
            raise
    warn_of_binary(records.shaper)
    if not conversion.exact:
        show_layouts(reading.layouts, all=False)
        warn_of_unused(records.shaper)
    summary.repeated, summary.not_numbers = (
        records.repeats.count,
        records.shaper.not_numbers + failures.not_numbers,
    )
    summary.first_repeats = records.repeats.first


def report(summary: Summary, failures: Failures, json: bool) -> None:
    """Says what was written and what was not. Exit status 1 if anything was not; else 3 if there is a
    warning."""
    warnings = summary.warnings.list()
    if json:
        counts = {
            key: value
            for key, value in asdict(summary).items()
            if key not in ("first_repeats", "warnings", "writes")
        }
        counts["sequence"] = summary.sequence
        listed = [as_json(warning) for warning in warnings]
        print_json(
            {**counts, "failures": [asdict(failure) for failure in failures.first], "warnings": listed}
        )
    else:
        rate = summary.documents / summary.seconds if summary.seconds else 0
        out.print(
            f"{count_things(summary.documents, 'document')} {summary.reached} in {summary.collection}"
            f" in {summary.seconds:.1f} s ({format_rate(rate)})",
            soft_wrap=True,
        )
    for warning in warnings:
        say(f"warning: {warning.message}", "bold red")
    if summary.repeated:
        places = ", ".join(
            f"{replace_controls(shorten(id))} at {where}" for id, where in summary.first_repeats
        )
        warn(
            f"records with the id of an earlier one, which they replaced: {summary.repeated:,} ({places}"
            f"{', ...' if summary.repeated > len(summary.first_repeats) else ''})"
        )
    if summary.not_numbers:
        values = count_things(summary.not_numbers, "value is NaN, and was", "values are NaN, and were")
        note(f"{values} left out")
    if failures.count:
        warn(f"{count_things(failures.count, 'document was', 'documents were')} not written:")
        for failure in failures.first:
            say(f"  {failure.where}: {shorten(failure.id) + ': ' if failure.id else ''}{failure.reason}")
        if failures.count > len(failures.first):
            note(f"  and {failures.count - len(failures.first):,} more")
        raise typer.Exit(1)
    if warnings:
        raise typer.Exit(WARNED)
