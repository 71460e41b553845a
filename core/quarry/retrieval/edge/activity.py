"""The activity of a process that does not answer, as the system sees it."""

import sys
from pathlib import Path


class Activity:
    """Looks at a process now and then. Off Linux nobody can tell, and it counts as at work."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc", str(pid))
        self._ticks = 0

    def note(self) -> None:
        """Remembers how much processor time it has used by now."""
        self._ticks = sum(int(ticks) for ticks in _read_fields(self._folder / "stat")[11:13])

    def is_at_work(self) -> bool:
        """Tells whether one of its threads works now, or has used a processor since the last look or note."""
        if sys.platform != "linux":
            return True
        before = self._ticks
        self.note()
        threads = self._folder.glob("task/*/stat")
        return self._ticks > before or any(_read_fields(thread)[:1] in (["R"], ["D"]) for thread in threads)


def _read_fields(file: Path) -> list[str]:
    """Reads the fields of a ``stat`` file, from the state on; empty if the process or the thread has gone."""
    try:
        return file.read_text().rpartition(")")[2].split()  # the name before that may hold anything
    except OSError:
        return []
