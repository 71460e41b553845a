"""`quarry index`: documents from files into a collection."""

import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from quarry.client import Client
from quarry.client.upsert_warnings import WarningCounts
from quarry.client.upserts import Response
from quarry_cli.calls.visibility import wait_searchable
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import as_json, make_progress, note, out, print_json, say, warn
from quarry_cli.inputs.batches import Failures, FileBatch, FilePacker
from quarry_cli.inputs.values import list_field_types

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
        sequence: of the last write.
        seconds: wall clock, the wait included.
        reached: how far the writes had come at the end.
        warnings: what about the written documents is most likely a mistake.
    """

    collection: str
    documents: int = 0
    failed: int = 0
    sequence: int = 0
    seconds: float = 0
    reached: Wait = Wait.LOGGED
    warnings: WarningCounts = field(default_factory=WarningCounts)

    def take(self, batch: FileBatch, response: Response, failures: Failures) -> None:
        for place, status in zip(batch.places, response.statuses, strict=True):
            if status.status.code:
                failures.add(place, status.id, status.status.message)
            else:
                self.documents += 1
        self.sequence = max(self.sequence, response.result.sequence)
        self.warnings.add(response.warnings)


class DocumentRate(ProgressColumn):
    """Documents acknowledged in a second."""

    def render(self, task: Task) -> Text:
        rate = task.fields["documents"] / task.elapsed if task.elapsed else 0
        return Text(f"{task.fields['documents']:,} documents, {rate:,.0f}/s")


def index(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, readable=True, show_default=False, help="What to index."),
    ],
    wait: Annotated[
        Wait, typer.Option(help="How far writes must have come: on disk, or found by searches.")
    ] = Wait.LOGGED,
    batch_bytes: Annotated[int, typer.Option(min=1_024, max=32 * 2**20, help="Largest batch, in bytes.")] = 2
    ** 20,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Index documents from files, replacing those of the same id.

    JSON lines as BEIR has them (_id, title, text; other keys become fields), CSV and TSV with a header,
    and Parquet; .jsonl, .csv and .tsv may be gzipped. Values take the type of the collection's field.
    Times are ISO 8601 (UTC unless they say otherwise) or numbers of seconds since 1970. Exit status 3 means
    that all was written, and that no query can find some of it, or that nothing reads some fields.
    """
    failures, summary = Failures(), Summary(name)
    start = time.monotonic()
    with connect(server, timeout, default_timeout_s=120) as quarry:
        write_files(quarry, files, batch_bytes, summary, failures)
        if wait is Wait.SEARCHABLE and summary.sequence:
            wait_searchable(quarry, name, summary.sequence, summary.documents)
            summary.reached = Wait.SEARCHABLE
    summary.seconds, summary.failed = round(time.monotonic() - start, 3), failures.count
    report(summary, failures, json)


def write_files(
    quarry: Client, files: list[Path], batch_bytes: int, summary: Summary, failures: Failures
) -> None:
    """Writes all documents of ``files``, under a progress bar."""
    packer = FilePacker(
        list_field_types(read_collection(quarry, summary.collection).schema), batch_bytes, failures
    )
    name, batches = summary.collection, packer.read_batches(files)
    total = sum(path.stat().st_size for path in files)
    with make_progress(DownloadColumn(), DocumentRate(), TimeRemainingColumn()) as bar:
        task = bar.add_task("indexing", total=total, documents=0)
        for batch, response in quarry.upsert_batches(name, batches, timeout_s=quarry.timeout_s):
            summary.take(batch, response, failures)
            bar.update(task, completed=batch.position, documents=summary.documents)


def report(summary: Summary, failures: Failures, json: bool) -> None:
    """Says what was written and what was not. Exit status 1 if anything was not; else 3 if there is a
    warning."""
    warnings = summary.warnings.list()
    if json:
        found = {
            "failures": [asdict(failure) for failure in failures.first],
            "warnings": [as_json(warning) for warning in warnings],
        }
        print_json({**asdict(summary), **found})
    else:
        rate = summary.documents / summary.seconds if summary.seconds else 0
        out.print(
            f"{summary.documents:,} documents {summary.reached} in {summary.collection}"
            f" in {summary.seconds:.1f} s ({rate:,.0f}/s)",
            soft_wrap=True,
        )
    for warning in warnings:
        say(f"warning: {warning.message}", "bold red")
    if failures.count:
        warn(f"{failures.count:,} documents were not written:")
        for failure in failures.first:
            say(f"  {failure.where}: {failure.id + ': ' if failure.id else ''}{failure.reason}")
        if failures.count > len(failures.first):
            note(f"  and {failures.count - len(failures.first):,} more")
        raise typer.Exit(1)
    if warnings:
        raise typer.Exit(WARNED)
