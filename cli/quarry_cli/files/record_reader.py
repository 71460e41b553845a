"""Records of files, of which the first ones are looked at before any is given out."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from quarry_cli.files.ids import USUAL_IDS, IdRule, choose_ids
from quarry_cli.files.records import BadRecord, Record, Row
from quarry_cli.files.shaping import Shaper

SAMPLE_RECORDS = 1_000
SAMPLE_CHARACTERS = 2**25
"""Of all strings that are read ahead, at most about; documents may have megabytes."""
SHOWN_REPEATS = 3


@dataclass(slots=True)
class Repeats:
    """Ids that were read before in the same files, by a hash of 64 bits.

    Attributes:
        count: how often that was so.
        first: the first few, each with its id and its place.
    """

    count: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def add(self, record: Record) -> None:
        mark = hash(record.id)
        if mark in self.seen:
            self.count += 1
            if len(self.first) < SHOWN_REPEATS:
                self.first.append((record.id, record.where))
        self.seen.add(mark)


class RecordReader:
    """Iterates over the documents of rows, once.

    Args:
        rows: of the files.
        shaper: makes fields of them.
        id_field: the field that is the id; None: as ``choose_ids`` finds.
        whole_sample: read all first records ahead, because a schema is to be inferred of them; otherwise
            only until it is clear what the ids are.

    Attributes:
        shaper: knows what it renamed.
        ids: what the ids are.
        repeats: ids that were there before.

    Raises:
        CliError: as reading does, or as ``choose_ids``.
    """

    def __init__(
        self, rows: Iterable[Row | BadRecord], shaper: Shaper, id_field: str | None, whole_sample: bool
    ) -> None:
        self.shaper, self.repeats = shaper, Repeats()
        self._rest = map(self._make_row, rows)
        self._ahead: deque[Row | BadRecord] = deque()
        self._read_ahead(stop_at_id=id_field is None and not whole_sample)
        self.ids: IdRule = choose_ids([row.content for row in self._list_sample()], id_field)

    def _read_ahead(self, stop_at_id: bool) -> None:
        characters = 0
        for row in self._rest:
            self._ahead.append(row)
            if not isinstance(row, Row):
                continue
            characters += sum(len(value) for value in row.content.values() if isinstance(value, str))
            if len(self._ahead) == SAMPLE_RECORDS or characters > SAMPLE_CHARACTERS:
                break
            if stop_at_id and any(key in row.content for key in USUAL_IDS):
                break

    def _list_sample(self) -> list[Row]:
        return [row for row in self._ahead if isinstance(row, Row)]

    def sample_fields(self) -> list[dict[str, Any]]:
        """Returns the fields of the first records without their ids."""
        id_name = self.id_name
        return [
            {name: value for name, value in row.content.items() if name != id_name}
            for row in self._list_sample()
        ]

    @property
    def id_name(self) -> str:
        """The field that is the id in the first records; empty for a hash."""
        names = {name for row in self._list_sample() for name in row.content}
        return next((key for key in self.ids.keys if key in names), "")

    @property
    def first_problem(self) -> BadRecord | None:
        """The first of what was read ahead that is no record."""
        return next((row for row in self._ahead if isinstance(row, BadRecord)), None)

    def __iter__(self) -> Iterator[Record | BadRecord]:
        while self._ahead:
            yield self._make_record(self._ahead.popleft())
        yield from map(self._make_record, self._rest)

    def _make_row(self, row: Row | BadRecord) -> Row | BadRecord:
        if isinstance(row, BadRecord):
            return row
        try:
            return Row(row.where, self.shaper.make_fields(row.content), row.position)
        except ValueError as error:
            return BadRecord(row.where, str(error))

    def _make_record(self, row: Row | BadRecord) -> Record | BadRecord:
        if isinstance(row, BadRecord):
            return row
        try:
            record = Record(row.where, self.ids.take(row.content), row.content, row.position)
        except ValueError as error:
            return BadRecord(row.where, str(error))
        self.repeats.add(record)
        return record
