"""The time that is left: one value that every stage of a request is given."""

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, in seconds; ``math.inf`` for none."""

    at_s: float = math.inf

    @classmethod
    def set_after(cls, seconds: float | None) -> "Deadline":
        """Returns the moment ``seconds`` from now; None for none."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 or more."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def timeout_s(self) -> float | None:
        """The seconds left, as asyncio's timeouts take them: None for no limit."""
        return None if math.isinf(self.at_s) else self.remaining_s

    def move_sooner(self, seconds: float) -> "Deadline":
        """Returns the same moment less ``seconds``: what an earlier stage may use."""
        return Deadline(self.at_s - seconds)

    def limit_to(self, seconds: float | None) -> "Deadline":
        """Returns this moment, or ``seconds`` from now if that is earlier."""
        return self if seconds is None else Deadline(min(self.at_s, time.monotonic() + seconds))


NO_LIMIT = Deadline()
