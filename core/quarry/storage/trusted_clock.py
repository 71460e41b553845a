"""The time by which Quarry decides what is old enough to delete. It never jumps ahead.

A machine whose clock is wrong for one start must not make a year of feedback look expired. Therefore this
time follows the wall clock in bounded steps, and the data folder remembers how far it has come.
"""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)
MARK = "clock"
DAY_US = 24 * 3_600 * 1_000_000
MAX_STEP_US = DAY_US
"""How far one step goes at most, however far the wall clock has jumped."""
CATCH_UP = 2
"""How many times faster than the wall clock this time may go while it is behind."""
_LAG_WORTH_A_WORD_US = 2 * DAY_US


def read_wall_us() -> int:
    """Reads microseconds since 1970, as the machine has it."""
    return time.time_ns() // 1_000


class TrustedClock:
    """Never ahead of the wall clock. Where it is behind, what has a lifetime lives longer.

    Args:
        remembered: the mark that ``save`` got last; None in a folder that has none yet.
        newest_us: when the newest record of the folder was written; None if that is not known.
        save: stores the mark in the data folder.
        wall: microseconds since 1970.
    """

    def __init__(
        self,
        remembered: str | None,
        newest_us: int | None,
        save: Callable[[str], None],
        wall: Callable[[], int] = read_wall_us,
    ) -> None:
        self._save, self._wall = save, wall
        now = wall()
        if remembered is None:
            self._wall_us, self._now_us = now, min(now, newest_us or now)
        else:
            self._wall_us, self._now_us = map(int, remembered.split(","))
        self.follow_wall()
        self._warn()

    @property
    def now_us(self) -> int:
        """Microseconds since 1970, as of the last step."""
        return self._now_us

    def follow_wall(self) -> None:
        """Follows the wall clock, by at most a day. Called at the start and once an hour; blocks."""
        now = self._wall()
        passed_us = max(0, now - self._wall_us)
        self._now_us = min(now, self._now_us + min(CATCH_UP * passed_us, MAX_STEP_US))
        self._wall_us = now
        self._save(f"{self._wall_us},{self._now_us}")

    def _warn(self) -> None:
        lag_us = self._wall_us - self._now_us
        if lag_us > _LAG_WORTH_A_WORD_US:
            logger.warning(
                "the clock is %.1f days ahead of the last time that this data folder was in use; what has a "
                "lifetime is kept for that much longer at first, in case the clock is wrong",
                lag_us / DAY_US,
            )
