"""Checks, before a server touches a data folder, that its databases know what the folder holds.

A database that was emptied, copied without its log or restored from an old backup looks like a sound one
that knows little. Whoever believed it would take everything else for leftovers. This module reads the files
as they are, changes nothing, and names what contradicts what.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quarry.errors import DataLossError, FolderContradictionError
from quarry.storage.marks import IDENTITY, IN_USE, TABLE, read_marks

DOCUMENTS, FEEDBACK = "documents.db", "feedback.db"
COLLECTIONS, REGISTRY = "collections", "registry"
MADE = "made:"
"""Begins the marks of the document log that name the other databases of its folder."""
ACCEPTED = "accepted:"
"""Begins the marks that name contradictions which the operator has accepted."""
CONTENT = (FEEDBACK, COLLECTIONS, REGISTRY, "mining", "training", "loops", "vectors.db", "states.db")
"""What makes a folder one that has been used; all of it was made after the document log."""
MAX_CHECKED_BYTES = 256 * 2**20
"""A database that was not closed in good order is read through at the start up to this size."""
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction between a database and the folder.

    Attributes:
        message: what contradicts what, for people.
        lost: name of a database that holds nothing of what it held; empty: it can be used as it is.
        lasts: nothing that a start does ends this contradiction, so its acceptance is kept.
    """

    message: str
    lost: str = ""
    lasts: bool = False

    @property
    def mark(self) -> str:
        return f"{ACCEPTED}{hashlib.sha256(self.message.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class StartState:
    """The state of a data folder, by its files.

    Attributes:
        identity: of the folder; empty if the document log has none yet.
        newest_us: when the newest feedback was received, microseconds since 1970; None if there is none.
        highest_key: highest key of a collection that anything in the folder belongs to.
        findings: contradictions that nobody has accepted.
    """

    identity: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    newest_us: int | None = None
    highest_key: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def code(self) -> str:
        """Stands for these findings: who starts the server with it accepts them and no others."""
        return hashlib.sha256("\n".join(f.message for f in self.findings).encode()).hexdigest()[:8]


def examine(data: Path) -> StartState:
    """Reads the data folder. A folder that no server has used yet has no findings.

    Raises:
        DataLossError: a database is damaged.
    """
    if not (data / DOCUMENTS).exists():
        held = [name for name in (f"{DOCUMENTS}-wal", *CONTENT) if _holds(data / name)]
        found = [Finding(f"{DOCUMENTS} is not there, but its folder holds {', '.join(held)}", DOCUMENTS)]
        return StartState(findings=tuple(found if held else []))
    with _open_read_only(data / DOCUMENTS) as documents, _open_read_only(data / FEEDBACK) as feedback:
        if documents is None or not _read_tables(documents):
            message = (
                f"{DOCUMENTS} holds no table: it is empty, or a copy that was made without {DOCUMENTS}-wal"
            )
            return StartState(findings=(Finding(message, DOCUMENTS),))
        with _blame(data / DOCUMENTS):
            marks = read_marks(documents) if TABLE in _read_tables(documents) else {}
            findings = [
                *_find_missing_log(data / DOCUMENTS, marks),
                *_find_sequence_gaps(documents),
                *_find_unknown_versions(documents, data / REGISTRY),
            ]
        with _blame(data / FEEDBACK):
            findings += _find_foreign_feedback(data / FEEDBACK, feedback, marks)
            on_disk = find_keys_on_disk(data, feedback)
            newest_us = _read_newest_feedback(feedback)
        with _blame(data / DOCUMENTS):
            findings += _find_unknown_keys(documents, on_disk)
    return StartState(
        identity=marks.get(IDENTITY, ""),
        marks=marks,
        newest_us=newest_us,
        highest_key=max(on_disk, default=0),
        findings=tuple(found for found in findings if found.mark not in marks),
    )


def make_refusal(data: Path, state: StartState) -> FolderContradictionError:
    """Makes the error that names all findings and says how to go on."""
    told = "; ".join(finding.message for finding in state.findings)
    return FolderContradictionError(
        f"DATA_LOSS: the data folder {data} contradicts itself: {told}. Nothing was changed. Restore what "
        f"is missing from a backup; or, to go on with what is there, start once with --accept-loss "
        f"{state.code}: what no database knows is then moved to quarantine (docs/how-to/back-up.md)",
        accept_loss=state.code,
    )


def find_keys_on_disk(data: Path, feedback: sqlite3.Connection | None) -> set[int]:
    """Finds the keys of all collections that a folder, a finished set, a report or a row of feedback
    belongs to."""
    keys = {
        int(folder.name)
        for parent in (COLLECTIONS, REGISTRY)
        for folder in (data / parent).glob("[0-9]*")
        if folder.name.isdecimal() and any(folder.iterdir())
    }
    for pattern in ("mining/*/summary.json", "training/.work/*/of.json", "loops/*/report.json"):
        for file in data.glob(pattern):
            keys.update(_read_named_keys(file))
    tables = _read_tables(feedback) if feedback is not None else frozenset[str]()
    for table in tables & {"impressions", "events"}:
        keys.update(_read_keys(feedback, table))  # type: ignore[arg-type]
    return keys


def _read_keys(connection: sqlite3.Connection, table: str) -> Iterator[int]:
    """Looks once at the index for each key: a scan of all rows would take minutes."""
    query = f"SELECT MIN(collection_id) FROM {table} WHERE collection_id > ?"  # noqa: S608  names from this module
    key: int | None = -1
    while key is not None:
        (key,) = connection.execute(query, (key,)).fetchone()
        if key is not None:
            yield key


def _read_named_keys(file: Path) -> set[int]:
    try:
        value: Any = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return set()  # whoever uses it says what is wrong with it
    if not isinstance(value, dict):
        return set()
    named = [value.get("collection_key"), *(value.get("collection_keys") or [])]
    return {key for key in named if isinstance(key, int)}


def _find_missing_log(path: Path, marks: Mapping[str, str]) -> Iterator[Finding]:
    if marks.get(IN_USE) == "1" and not _locate_log(path).exists():
        yield Finding(
            f"{path.name} was in use when it was written, and {path.name}-wal, which holds the newest "
            "commits, is not beside it, as in a copy that was made while a server ran"
        )


def _find_foreign_feedback(
    path: Path, feedback: sqlite3.Connection | None, marks: Mapping[str, str]
) -> Iterator[Finding]:
    if not path.exists():
        if f"{MADE}{FEEDBACK}" in marks:
            yield Finding(f"{FEEDBACK} is not there, but {DOCUMENTS} says that it was made", FEEDBACK)
        return
    if feedback is None or not _read_tables(feedback):
        message = f"{FEEDBACK} holds no table: it is empty, or a copy that was made without {FEEDBACK}-wal"
        yield Finding(message, FEEDBACK)
        return
    own = read_marks(feedback) if TABLE in _read_tables(feedback) else {}
    if own.get(IDENTITY, marks.get(IDENTITY)) != marks.get(IDENTITY):
        yield Finding(f"{FEEDBACK} belongs to another data folder than {DOCUMENTS}", FEEDBACK)
        return
    yield from _find_missing_log(path, own)


def _find_unknown_keys(documents: sqlite3.Connection, on_disk: Iterable[int]) -> Iterator[Finding]:
    row = documents.execute("SELECT seq FROM sqlite_sequence WHERE name = 'collections'").fetchone()
    highest = row[0] if row else 0
    unknown = sorted(key for key in on_disk if key > highest)
    if unknown:
        yield Finding(
            f"{DOCUMENTS} has given out keys of collections up to {highest}, but the folder holds data of "
            f"{', '.join(map(str, unknown))}, as if the database were older than the rest"
        )


def _find_sequence_gaps(documents: sqlite3.Connection) -> Iterator[Finding]:
    last_version = "SELECT MAX(version) FROM documents WHERE collection_id = c.id"
    rows = documents.execute(f"SELECT name, last_sequence, ({last_version}) FROM collections c")  # noqa: S608
    for name, last, newest in rows:
        if last != (newest or 0):
            yield Finding(
                f"{DOCUMENTS} says that the last write of the collection {name} was number {last}, but its "
                f"newest document has {newest or 0}",
                lasts=True,
            )


def _find_unknown_versions(documents: sqlite3.Connection, registry: Path) -> Iterator[Finding]:
    """Finds versions that no row knows: a registration that was cut short leaves one number above the last
    row, no more."""
    if "model_versions" not in _read_tables(documents):
        return
    last_number = "SELECT MAX(number) FROM model_versions WHERE collection_id = c.id"
    rows = documents.execute(f"SELECT id, name, ({last_number}) FROM collections c")  # noqa: S608
    for key, name, known in rows:
        places = (registry / str(key)).glob("[0-9]*")
        highest = max((int(place.name) for place in places if place.name.isdecimal()), default=0)
        if highest > (known or 0) + 1:
            yield Finding(
                f"{DOCUMENTS} knows models of the collection {name} up to number {known or 0}, but the "
                f"folder holds number {highest}, as if the database were older than the rest"
            )


def _read_newest_feedback(feedback: sqlite3.Connection | None) -> int | None:
    tables = _read_tables(feedback) if feedback is not None else frozenset[str]()
    newest: list[int] = []
    for table in tables & {"impressions", "events"}:
        query = f"SELECT received_us FROM {table} ORDER BY id DESC LIMIT 1"  # noqa: S608  names from this module
        newest += [time_us for (time_us,) in feedback.execute(query)]  # type: ignore[union-attr]
    return max(newest, default=None)


@contextlib.contextmanager
def _open_read_only(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Opens a database for reading alone; gives None for a file without a byte.

    The log stays as it is. Where there is none, the file is opened as one that cannot change: SQLite would
    make an empty log otherwise, and nobody would miss the one that is lost.
    """
    has_log = _locate_log(path).exists()
    if not path.exists() or (path.stat().st_size == 0 and not has_log):
        yield None
        return
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=30)
    try:
        with _blame(path):
            _check_pages(connection, path)
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Adds to damage that is met meanwhile that it is in ``path``."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNREADABLE:
            raise
        raise DataLossError(f"{path} cannot be read ({error}): restore it from a backup") from error


def _locate_log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Reads a database through that was not closed in good order, unless it is large."""
    marks = read_marks(connection) if TABLE in _read_tables(connection) else {}
    if marks.get(IN_USE) != "1" or path.stat().st_size > MAX_CHECKED_BYTES:
        return
    (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if told != "ok":
        raise DataLossError(f"{path} is damaged ({told}): restore it from a backup")


def _read_tables(connection: sqlite3.Connection) -> frozenset[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return frozenset(name for (name,) in connection.execute(query))


def _holds(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.exists()
