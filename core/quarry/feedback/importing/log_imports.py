"""Reads a log of impressions and events from a file into the feedback log.

Records go in batches, each in one transaction and each record at most once by its id: an import that was
killed is made whole by repeating it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from quarry.documents.catalog import read_now_us
from quarry.errors import CollectionNotFoundError
from quarry.feedback.contents import Texts, hash_content, with_contents
from quarry.feedback.importing import quarry_lines, ubi
from quarry.feedback.importing.json_fields import LineError
from quarry.feedback.importing.staging import Staging
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog, insert_events, insert_impressions
from quarry.feedback.rows import make_impression_row
from quarry.feedback.types import Event, Impression, LoggedHit
from quarry.types import Document, Fields

BATCH = 500
"""Records of one transaction. It has fewer if they have many hits, or if few lines are records."""
BATCH_HITS = 50_000
BATCH_BYTES = 8 * 2**20
MAX_QUERY_RECORDS = 10_000
"""Of one query in a UBI log, which are in memory at once."""
MAX_REPORTED = 1_000
MAX_LINE_BYTES = 4 * 2**20


class LogFormat(StrEnum):
    QUARRY = "quarry"
    UBI = "ubi"


@dataclass(frozen=True, slots=True)
class LogImportPlan:
    """The log that an import reads, and its settings.

    Attributes:
        key: of the collection.
        simulated: a program made the log.
        documents: finds documents of the collection as they are now, by id; blocks.
        text: what is kept of a document.
    """

    file: Path
    format: LogFormat
    key: int
    simulated: bool
    documents: Callable[[Sequence[str]], Mapping[str, Document]]
    text: Callable[[Fields], str]


@dataclass(slots=True)
class Tally:
    """The counts of a file's lines so far.

    Attributes:
        rejections: the first of the rejected lines, from 1, and why.
        progress: 0 to 1.
    """

    lines: int = 0
    impressions: int = 0
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejections: list[tuple[int, str]] = field(default_factory=list)
    progress: float = 0.0

    def reject(self, line: int, reason: str) -> None:
        self.rejected += 1
        if len(self.rejections) < MAX_REPORTED:
            self.rejections.append((line, reason))


Batch = list[Impression | Event]


async def import_file(
    log: FeedbackLog,
    pages: ImpressionLog,
    plan: LogImportPlan,
    report: Callable[[Tally], Awaitable[None]],
) -> Tally:
    """Reads the whole file; ``report`` hears of it after each batch.

    Raises CollectionNotFoundError if the collection is deleted meanwhile, DiskFullError.
    """
    tally = Tally()
    batches = _BATCHES[plan.format](plan, tally)
    try:
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            rows, texts = await asyncio.to_thread(_make_rows, plan, batch)
            events = [record for record in batch if isinstance(record, Event)]
            async with pages.writing:
                if pages.is_forgotten(plan.key):
                    raise CollectionNotFoundError
                new_pages, new_events = await log.database.write(
                    lambda c, rows=rows, texts=texts, events=events: _write(c, plan.key, rows, texts, events)  # type: ignore[misc]
                )
            tally.impressions += new_pages
            tally.events += new_events
            tally.duplicates += len(batch) - new_pages - new_events
            await report(tally)
    finally:
        await asyncio.to_thread(batches.close)  # type: ignore[attr-defined]
    tally.progress = 1.0
    return tally


def _write(
    connection: sa.Connection,
    key: int,
    rows: Sequence[tuple[object, ...]],
    texts: Texts,
    events: Sequence[Event],
) -> tuple[int, int]:
    new_pages = insert_impressions(connection, rows, texts)
    (duplicates,) = insert_events(connection, [(key, events)])
    return new_pages, len(events) - sum(duplicates)


def _make_rows(plan: LogImportPlan, batch: Batch) -> tuple[list[tuple[object, ...]], Texts]:
    """Makes rows of the impressions, and the texts of hits whose version is not known to be another one."""
    impressions = [record for record in batch if isinstance(record, Impression)]
    ids = {hit.document_id for i in impressions for hit in (*i.shown, *i.pool)}
    found = plan.documents(sorted(ids)) if ids else {}
    known = {id: plan.text(document.fields) for id, document in found.items()}
    contents = {id: hash_content(text) for id, text in known.items()}

    texts: Texts = {}

    def find_content(hit: LoggedHit) -> bytes | None:
        document = found.get(hit.document_id)
        if document is None or hit.version not in (0, document.version):
            return None
        own = contents[hit.document_id]
        texts[own, plan.key] = known[hit.document_id]
        return own

    received_us = read_now_us()
    rows = [make_impression_row(plan.key, with_contents(i, find_content), received_us) for i in impressions]
    return rows, texts


def _read_quarry_batches(plan: LogImportPlan, tally: Tally) -> Iterator[Batch]:
    size = max(plan.file.stat().st_size, 1)
    received_us = read_now_us()
    batch: Batch = []
    begun = hits = 0
    for number, line, end in _read_lines(plan.file):
        if line is not None:
            tally.lines = number
            try:
                record = quarry_lines.parse_line(_shorten(line), received_us)
                batch.append(_as_simulated(record) if plan.simulated else record)
                hits += _count_hits(record)
            except LineError as error:
                tally.reject(number, str(error))
        if len(batch) >= BATCH or hits >= BATCH_HITS or end - begun >= BATCH_BYTES:
            tally.progress = end / size
            yield batch
            batch, begun, hits = [], end, 0
    yield batch


def _read_ubi_batches(plan: LogImportPlan, tally: Tally) -> Iterator[Batch]:
    staging = Staging(plan.file.with_name(f"{plan.file.name}.staged"))
    try:
        yield from _stage(plan, tally, staging)
        total, done, begun = max(len(staging), 1), 0, 0
        received_us = read_now_us()
        batch: Batch = []
        for records, surplus in staging.iterate_queries(MAX_QUERY_RECORDS):
            done += len(records)
            if surplus:
                for number, _ in records:
                    tally.reject(number, f"the query has over {MAX_QUERY_RECORDS} records")
            else:
                batch += _make_query_batch(records, staging, plan.simulated, received_us, tally)
            if len(batch) >= BATCH or done - begun >= 10 * BATCH:
                tally.progress = 0.5 + 0.5 * done / total
                yield batch
                batch, begun = [], done
        yield batch
    finally:
        staging.close()


def _stage(plan: LogImportPlan, tally: Tally, staging: Staging) -> Iterator[Batch]:
    """Fills ``staging``; the batches are empty and report how far it is."""
    size = max(plan.file.stat().st_size, 1)
    records: list[tuple[int, ubi.Record]] = []
    begun = 0
    for number, line, end in _read_lines(plan.file):
        if line is not None:
            tally.lines = number
            try:
                record = ubi.read_record(_shorten(line))
                if record is not None:
                    records.append((number, record))
            except LineError as error:
                tally.reject(number, str(error))
        if len(records) >= 10 * BATCH or end - begun >= BATCH_BYTES:
            staging.add(records)
            records, begun = [], end
            tally.progress = 0.5 * end / size
            yield []
    staging.add(records)


def _make_query_batch(
    records: Sequence[tuple[int, ubi.Record]],
    staging: Staging,
    simulated: bool,
    received_us: int,
    tally: Tally,
) -> Batch:
    """Makes the impression and the events of one query; of several records of it the one with most hits."""
    queries = [(line, record) for line, record in records if "query" in record]
    events = [record for _, record in records if "query" not in record]
    batch: Batch = []
    if queries:
        _, query = max(queries, key=lambda item: (len(item[1]["hits"] or ()), item[0]))
        try:
            base = staging.find_base(query["application"])
            batch.append(ubi.read_impression(query, events, base, simulated))
            tally.duplicates += len(queries) - 1
        except LineError as error:
            for number, _ in queries:
                tally.reject(number, str(error))
    return batch + [
        ubi.read_event(event, staging.find_base(event["application"]), received_us) for event in events
    ]


def _read_lines(file: Path) -> Iterator[tuple[int, bytes | None, int]]:
    """Yields lines, numbered from 1, with the bytes read so far; None for an empty line.

    Of a line that is too long only the beginning is given, then None for each further piece, so that no file
    fills the memory and none keeps its reader long without a word.
    """
    end = number = 0
    with file.open("rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES + 1):
            end, number = end + len(line), number + 1
            rest = line
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield number, line if line.strip() else None, end
            while not rest.endswith(b"\n") and (rest := lines.readline(MAX_LINE_BYTES)):
                end += len(rest)
                yield number, None, end


def _count_hits(record: Impression | Event) -> int:
    return len(record.shown) + len(record.pool) if isinstance(record, Impression) else 0


def _shorten(line: bytes) -> bytes:
    if len(line) > MAX_LINE_BYTES:
        raise LineError(f"has over {MAX_LINE_BYTES} bytes")
    return line


def _as_simulated(record: Impression | Event) -> Impression | Event:
    if isinstance(record, Event):
        return record
    return replace(record, context=replace(record.context, simulated=True))


_BATCHES: Mapping[LogFormat, Callable[[LogImportPlan, Tally], Iterator[Batch]]] = {
    LogFormat.QUARRY: _read_quarry_batches,
    LogFormat.UBI: _read_ubi_batches,
}
