"""The quarantine of things that no database knows: they are moved and named in the log, never deleted at
once."""

import logging
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

logger = logging.getLogger(__name__)
FOLDER = "quarantine"
REASON = "reason.txt"
_TIME = "%Y-%m-%dT%H-%M-%S"
_ENTRY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)(-\d+)?")


class Quarantine:
    """The folder ``quarantine`` of a data folder: one entry a move, named by its time in UTC.

    Args:
        data: the data folder.
        days: how long an entry is kept.
    """

    def __init__(self, data: Path, days: float) -> None:
        self._data, self._folder, self._days = data, data / FOLDER, days

    def take(self, path: Path, reason: str, now_us: int) -> None:
        """Moves a file or a folder of the data folder here, below its own path. One that is gone is fine."""
        if not path.exists():
            return
        entry = self._make_entry(now_us)
        target = entry / path.relative_to(self._data)
        target.parent.mkdir(parents=True, exist_ok=True)
        (entry / REASON).write_text(f"{path.relative_to(self._data)}: {reason}\n", encoding="utf-8")
        shutil.move(path, target)
        logger.warning(
            "moved %s to %s, because %s; it is removed after %g days", path, target, reason, self._days
        )

    def remove_old(self, now_us: int) -> None:
        """Removes the entries that have been here for longer than they are kept, and says so in the log.

        Args:
            now_us: microseconds since 1970, of a clock that does not jump.
        """
        now = datetime.fromtimestamp(now_us / 1e6, UTC)
        for entry in sorted(self._folder.glob("*")):
            found = _ENTRY.fullmatch(entry.name)
            if found is None:
                continue
            moved = datetime.strptime(found[1], _TIME).replace(tzinfo=UTC)
            if now - moved > timedelta(days=self._days):
                logger.warning("removing %s, which lay there for %g days", entry, self._days)
                shutil.rmtree(entry, ignore_errors=True)

    def _make_entry(self, now_us: int) -> Path:
        name = datetime.fromtimestamp(now_us / 1e6, UTC).strftime(_TIME)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for number in range(1, 1_000_000):
            entry = self._folder / (name if number == 1 else f"{name}-{number}")
            try:
                entry.mkdir()
            except FileExistsError:
                continue
            return entry
        raise FileExistsError(self._folder / name)
