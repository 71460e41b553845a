"""Empties the write-ahead log of a SQLite file, which holds older copies of what was deleted."""

import sqlite3

BUSY_MS, USUAL_BUSY_MS = 100, 30_000
"""How long emptying waits for readers, who keep all writers waiting meanwhile; and how long other statements
wait."""


def empty_log(connection: sqlite3.Connection, busy_ms: int = BUSY_MS) -> bool:
    """Moves all of it into the file and cuts it; tells whether that is done.

    Whoever reads an older state of the file holds it back: then try again later.
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # most of the work, and nobody waits
    connection.execute(f"PRAGMA busy_timeout = {busy_ms}").fetchall()
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {USUAL_BUSY_MS}").fetchall()
    return not busy
