"""For how long searches of an index have not found something that the log holds."""

import time
from collections.abc import Callable


class Lag:
    """Estimates the age of the oldest write that searches do not find, as at most twice what it is.

    It keeps no write's time. It notes the end of the log now and then; once searches find everything up to
    there, what they do not find is younger than that note.

    Args:
        clock_s: monotonic.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._since_s: float | None = None
        self._visible = 0
        self._end = self._noted_end = 0
        self._read_s = self._noted_s = clock_s()
        self._newer = False

    @property
    def seconds(self) -> float:
        """The estimated age of the oldest write that searches do not find; 0 if they find all."""
        return 0.0 if self._since_s is None else self._clock_s() - self._since_s

    def note_write(self) -> None:
        """Notes that the log has grown."""
        self._newer = True
        if self._since_s is None:
            self._since_s = self._clock_s()

    def note_reading(self) -> None:
        """Notes that the end of the log is about to be read."""
        self._newer = False
        self._read_s = self._clock_s()

    def read(self, end: int) -> None:
        """Notes that the log ended at this sequence number, after ``note_reading``."""
        self._end = end
        if self._visible >= self._noted_end:
            self._noted_s, self._noted_end = self._read_s, end
        self._compare()

    def note_found(self, visible: int) -> None:
        """Notes that searches find what was written up to this sequence number."""
        self._visible = visible
        self._compare()

    def _compare(self) -> None:
        if self._visible >= self._end:
            self._since_s = self._read_s if self._newer else None
        elif self._since_s is None:
            self._since_s = self._read_s
        elif self._visible >= self._noted_end:
            self._since_s = max(self._since_s, self._noted_s)
