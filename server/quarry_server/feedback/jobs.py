"""The operations of FeedbackService: reading logs from files, and deleting for good."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import sqlalchemy as sa

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.collections import Collections
from quarry.documents.store import Database
from quarry.errors import (
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownValueError,
)
from quarry.feedback.answers import make_text_reader
from quarry.feedback.contents import read_documents_by_id
from quarry.feedback.event_limits import check_time
from quarry.feedback.importing.log_imports import LogFormat, LogImportPlan, Tally, import_file
from quarry.feedback.purge import (
    Purged,
    PurgeMade,
    Selection,
    clear_write_ahead_log,
    forget_nothing,
    purge,
)
from quarry.jobs.operations import Operations
from quarry.registry.feedback_use import list_learned_from
from quarry.storage.disk import make_write_error
from quarry.v1 import feedback_service_pb2 as pb
from quarry_server.common.labels import MAX_PERSON_BYTES, check_label
from quarry_server.common.operations import Tell
from quarry_server.common.uploads import StreamForm, receive_file
from quarry_server.common.values import parse_timestamp
from quarry_server.wiring import OpenFeedback

FOLDER = "imports"
_REPORT_S = 0.5
_FORM = StreamForm("message", "config", "data", "the file has over {} bytes: send it in parts")
MINING, LOOP = "mine", "run-loop"
"""Kinds of the operations that make mining sets, and reports of the loop."""

FORMATS = {pb.FEEDBACK_FORMAT_QUARRY: LogFormat.QUARRY, pb.FEEDBACK_FORMAT_UBI: LogFormat.UBI}


class MadeOfFeedback:
    """The things that were made of feedback and go with it: mining sets, reports of the loop, and operations
    whose outcome tells of them.

    Args:
        purge_sets: removes the sets; their names. ``purge_reports`` removes the reports.
    """

    def __init__(
        self,
        purge_sets: PurgeMade,
        operations: Operations,
        documents: sa.Engine,
        purge_reports: PurgeMade = forget_nothing,
    ) -> None:
        self._purge_sets, self._operations, self._documents = purge_sets, operations, documents
        self._purge_reports = purge_reports
        self._gone: set[str] = set()

    async def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Deletes as ``PurgeMade`` says, and returns the sets' names. A job that was ending during one call
        has left its outcome by the next."""
        reports = await self._purge_reports(key, start_us, end_us)
        names = await self._purge_sets(key, start_us, end_us)
        self._gone.update(names, reports)
        told = [await self._operations.forget_telling(kind, self._gone) for kind in (MINING, LOOP)]
        if any(told):
            await clear_write_ahead_log(self._documents)
        return names


def remove_spooled(data: Path) -> None:
    """Removes what imports have left that a crash has ended."""
    for file in (data / FOLDER).glob("*"):
        file.unlink(missing_ok=True)


async def write_spool(
    requests: AsyncIterator[pb.ImportEventsRequest],
    open_collections: Collections,
    folder: Path,
    most_bytes: int,
) -> tuple[pb.ImportEventsConfig, Path]:
    """Writes a stream of at most ``most_bytes`` to a file, which is the caller's to remove; returns it with
    what the stream opened with."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    path = folder / uuid.uuid4().hex

    async def check(config: pb.ImportEventsConfig) -> pb.ImportEventsConfig:
        if config.format not in FORMATS:
            kind = UnknownValueError if config.format else RequiredError
            raise kind("config.format", f"{config.format} is not a FeedbackFormat, or is missing")
        # An alias may be switched before the import begins.
        config.collection = open_collections.find_name(config.collection)
        return config

    try:
        config, _ = await receive_file(requests, _FORM, check, path, most_bytes)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise make_write_error("the file cannot be kept", error) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return config, path


async def run_import(
    feedback: OpenFeedback,
    open_collections: Collections,
    config: pb.ImportEventsConfig,
    file: Path,
    metadata: pb.ImportEventsMetadata,
    tell: Tell,
) -> pb.ImportEventsResponse:
    """Imports the file, says how far that is, and removes the file."""
    reported_s = time.monotonic()

    async def report(tally: Tally) -> None:
        nonlocal reported_s
        if tally.progress == 1 or time.monotonic() - reported_s >= _REPORT_S:
            reported_s = time.monotonic()
            metadata.progress, metadata.lines = tally.progress, tally.lines
            await tell()

    try:
        with open_collections.use(config.collection) as collection:
            plan = make_import_plan(open_collections, collection, config, file)
            tally = await import_file(feedback.log, feedback.impressions, plan, report)
        await report(tally)
    finally:
        await asyncio.to_thread(file.unlink, missing_ok=True)
    return pb.ImportEventsResponse(
        lines=tally.lines,
        impressions=tally.impressions,
        events=tally.events,
        duplicates=tally.duplicates,
        rejected=tally.rejected,
        rejections=[pb.RejectedLine(line=line, reason=reason) for line, reason in tally.rejections],
    )


def make_import_plan(
    open_collections: Collections, collection: CollectionHandle, config: pb.ImportEventsConfig, file: Path
) -> LogImportPlan:
    key = collection.row.key
    return LogImportPlan(
        file,
        FORMATS[config.format],
        key,
        config.simulated,
        lambda ids: open_collections.database.read(lambda c: read_documents_by_id(c, key, ids)),
        make_text_reader(collection.row.settings.schema),
    )


def parse_selection(request: pb.PurgeFeedbackRequest, key: int) -> Selection:
    """Raises InvalidArgumentError; a request without any condition is a mistake."""
    start_us, end_us = (
        _parse_time_us(request, name) if request.HasField(name) else None
        for name in ("start_time", "end_time")
    )
    if not request.user_id and start_us is None and end_us is None:
        raise RequiredError("user_id", "is missing, and so are start_time and end_time: give one")
    if start_us is not None and end_us is not None and end_us <= start_us:
        raise OutOfRangeError("end_time", "is not after start_time")
    user = check_label("user_id", request.user_id, MAX_PERSON_BYTES) or None
    return Selection(key, user, start_us, end_us)


def _parse_time_us(request: pb.PurgeFeedbackRequest, name: str) -> int:
    try:
        return check_time(parse_timestamp(getattr(request, name)))
    except InvalidArgumentError as error:
        raise error.move_to(name) from None


async def run_purge(
    feedback: OpenFeedback,
    selection: Selection,
    purge_made: PurgeMade,
    documents: Database,
    metadata: pb.PurgeFeedbackMetadata,
    tell: Tell,
) -> pb.PurgeFeedbackResponse:
    """Deletes feedback, and returns what was deleted, and which models may have learned from it."""

    async def report(progress: float) -> None:
        metadata.progress = progress
        await tell()

    made_of = (selection.collection or 0, selection.start_us, selection.end_us)
    names = await purge_made(*made_of)
    purged: Purged = await purge(feedback.log, feedback.impressions, selection, report)
    names += await purge_made(*made_of)  # what was begun meanwhile has read what is gone
    models = await asyncio.to_thread(
        documents.read, lambda connection: list_learned_from(connection, *made_of)
    )
    await report(1.0)
    return pb.PurgeFeedbackResponse(
        impressions=purged.impressions,
        events=purged.events,
        texts=purged.texts,
        mining_sets=names,
        models=models,
    )
