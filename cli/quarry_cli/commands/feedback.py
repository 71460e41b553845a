"""`quarry feedback`: read logs of what people saw and did, count what is there, delete it for good."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2
from rich.progress import DownloadColumn, Progress, TaskID, TextColumn

from quarry.client import Client
from quarry.client.transfers import PIECE_BYTES
from quarry.v1 import feedback_service_pb2 as pb
from quarry_cli.commands.evaluation.feedback_evaluate import evaluate
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.console import as_json, make_progress, note, out, print_json, say
from quarry_cli.failures import check_outcome, name_file
from quarry_cli.inputs.compression import open_unpacked
from quarry_cli.views.feedback import show_purged, show_rejections, show_stats

UPLOAD_S = 24 * 3_600.0
"""Longest upload of one file; it is as long as its file and has no better bound."""
MAX_REJECTIONS_SHOWN = 10

app = typer.Typer(no_args_is_help=True, help="Read logs of what people saw and did, count it, delete it.")
app.command()(evaluate)

NameArgument = Annotated[str, typer.Argument(help="The collection.", show_default=False)]


class LogFormatOption(StrEnum):
    QUARRY = "quarry"
    UBI = "ubi"


FORMATS = {
    LogFormatOption.QUARRY: pb.FEEDBACK_FORMAT_QUARRY,
    LogFormatOption.UBI: pb.FEEDBACK_FORMAT_UBI,
}


def parse_moment(text: str | None) -> datetime | None:
    """Parses a day or a time, UTC where it names no zone; a mistake of usage if it is neither."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


@app.command("import")
def import_log(
    name: NameArgument,
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="JSON lines, plain or .gz.", show_default=False),
    ],
    format: Annotated[LogFormatOption, typer.Option(help="quarry: Quarry's own; ubi: UBI 1.3.")] = (
        LogFormatOption.QUARRY
    ),
    simulated: Annotated[bool, typer.Option("--simulated", help="A program made the log.")] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Read logs of impressions and events. What was read before is skipped, so repeating is safe.

    Lines that cannot be read are counted and told. Exit status 1 if no line could be.
    """
    config = pb.ImportEventsConfig(collection=name, format=FORMATS[format], simulated=simulated)
    total = pb.ImportEventsResponse()
    with connect(server, timeout) as quarry, make_progress(DownloadColumn()) as bar:
        for file in files:
            found = _import(quarry, config, file, bar)
            _show_rejected(file, found)
            for field in ("lines", "impressions", "events", "duplicates", "rejected"):
                setattr(total, field, getattr(total, field) + getattr(found, field))
            total.rejections.extend(found.rejections)
    if json:
        print_json(as_json(total))
    else:
        _show_imported(total)
    if total.rejected == total.lines > 0:
        raise typer.Exit(1)
    if not json:
        note(f"next: quarry feedback stats {name}")


def _show_imported(total: pb.ImportEventsResponse) -> None:
    out.print(
        f"{total.lines:,} lines: {total.impressions:,} impressions and {total.events:,} events are new, "
        f"{total.duplicates:,} were there, {total.rejected:,} were rejected",
        soft_wrap=True,
    )


@app.command()
def stats(
    name: NameArgument, server: ServerOption = None, timeout: TimeoutOption = None, json: JsonOption = False
) -> None:
    """Show what the log holds, and what of it does not count and why."""
    request = pb.GetFeedbackStatsRequest(collection=name)
    with connect(server, timeout, default_timeout_s=300) as quarry:
        found = quarry.feedback.GetFeedbackStats(request)
    if json:
        print_json(as_json(found))
    else:
        show_stats(found)


@app.command()
def purge(
    name: NameArgument,
    user: Annotated[str, typer.Option(metavar="ID", help="Only of this user.")] = "",
    after: Annotated[str | None, typer.Option(metavar="TIME", help="Only from this time on.")] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Only before this time.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Delete impressions, events, their texts and the mining sets made of them. There is no undo."""
    start, end = parse_moment(after), parse_moment(before)
    if not user and start is None and end is None:
        raise typer.BadParameter("nothing is chosen: give --user, --after or --before")
    if start is not None and end is not None and end <= start:
        raise typer.BadParameter("--before is not after --after")
    if not yes:
        what = [f"of the user {user}" if user else "", f"from {start} on" if start else ""]
        what.append(f"before {end}" if end else "")
        chosen = " ".join(part for part in what if part)
        typer.confirm(f"Delete the feedback on {name} {chosen}?", abort=True, err=True)
    request = pb.PurgeFeedbackRequest(
        collection=name, user_id=user, start_time=_to_timestamp(start), end_time=_to_timestamp(end)
    )
    with connect(server, timeout) as quarry, make_progress(TextColumn("{task.percentage:.0f} %")) as bar:
        task = bar.add_task("deleting", total=100)
        operation = quarry.feedback.PurgeFeedback(request)
        operation = wait_until_done(
            quarry,
            operation,
            pb.PurgeFeedbackMetadata,
            lambda m: bar.update(task, completed=100 * m.progress),
        )
    result = pb.PurgeFeedbackResponse()
    operation.response.Unpack(result)
    if json:
        print_json(as_json(result))
    else:
        show_purged(result)


def wait_until_done(
    quarry: Client,
    operation: operations_pb2.Operation,
    metadata_type: type[Any],
    show: Callable[[Any], object],
) -> operations_pb2.Operation:
    """Waits until the operation is done. Interrupted, it goes on in the server. Raises CliError if it
    failed."""

    def watch(operation: operations_pb2.Operation) -> None:
        metadata = metadata_type()
        if operation.metadata.Unpack(metadata):
            show(metadata)

    operation = quarry.follow(operation, watch)
    check_outcome(operation, "the job failed")
    return operation


def _import(
    quarry: Client, config: pb.ImportEventsConfig, file: Path, bar: Progress
) -> pb.ImportEventsResponse:
    size = file.stat().st_size
    task = bar.add_task(f"sending {file.name}", total=size)
    with name_file(file), file.open("rb") as raw:
        operation = quarry.import_events(config, _read_pieces(raw, bar, task), timeout=UPLOAD_S)
    bar.update(task, description=f"reading {file.name}", completed=0)
    operation = wait_until_done(
        quarry, operation, pb.ImportEventsMetadata, lambda m: bar.update(task, completed=size * m.progress)
    )
    bar.remove_task(task)
    result = pb.ImportEventsResponse()
    operation.response.Unpack(result)
    return result


def _read_pieces(raw: BinaryIO, bar: Progress, task: TaskID) -> Iterator[bytes]:
    content = open_unpacked(raw)
    while piece := content.read(PIECE_BYTES):
        bar.update(task, completed=raw.tell())
        yield piece


def _show_rejected(file: Path, found: pb.ImportEventsResponse) -> None:
    if found.rejected:
        say(f"{file}: {found.rejected:,} lines were rejected", "yellow")
        show_rejections(found.rejections[:MAX_REJECTIONS_SHOWN])


def _to_timestamp(value: datetime | None) -> timestamp_pb2.Timestamp | None:
    if value is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(value.astimezone(UTC).replace(tzinfo=None))
    return message
