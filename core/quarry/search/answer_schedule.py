"""Says until when each search may wait, so that its answer still arrives in time."""

import contextlib
import time
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from quarry.deadline import Deadline

FIRST_GUESS_S = 0.02
"""What answering is believed to take before it was measured."""
SHORTEST_SENDING_S, SENDING_SHARE, LONGEST_SENDING_S = 0.01, 0.1, 0.5
"""The server cannot see how long an answer is on its way. A tenth of the time is kept back, within bounds."""
LARGEST_SHARE = 0.75
"""Of its time a search keeps back at most so much."""
MEAN_WEIGHT, DEVIATION_WEIGHT, DEVIATIONS = 1 / 8, 1 / 4, 4.0
"""How fast estimates follow, and how many deviations are kept back: as in TCP's time-outs (RFC 6298)."""
SURPRISE_S = 0.05
"""A measurement counts as at most so much more than what few exceed. So one outlier moves little, and lasting
slowness is learned within some ten searches, since each of them about doubles the estimate."""


class MovingEstimate:
    """A moving average and its mean deviation, in seconds."""

    def __init__(self, first_guess_s: float) -> None:
        self.mean_s, self.deviation_s = first_guess_s, first_guess_s / 2

    def add(self, seconds: float) -> None:
        """Counts a measurement; one that is far too high, as a lower one."""
        seconds = min(seconds, self.high_s + SURPRISE_S)
        self.deviation_s += DEVIATION_WEIGHT * (abs(seconds - self.mean_s) - self.deviation_s)
        self.mean_s += MEAN_WEIGHT * (seconds - self.mean_s)

    @property
    def high_s(self) -> float:
        """Seconds that few measurements exceed."""
        return self.mean_s + DEVIATIONS * self.deviation_s


@dataclass(slots=True)
class AnswerTimes:
    """The time that answering takes now, as the searches of a server measure it.

    Attributes:
        took: from the last wait of a search to its answer.
        alone: the same divided by how many searches answered at that time.
        answering: how many do so now.
    """

    took: MovingEstimate = field(default_factory=lambda: MovingEstimate(FIRST_GUESS_S))
    alone: MovingEstimate = field(default_factory=lambda: MovingEstimate(FIRST_GUESS_S / 4))
    answering: int = 0


@dataclass(slots=True, eq=False)
class Slot:
    """The time of one search.

    Attributes:
        deadline: when the answer must have arrived.
        limit: until when the search waits for what its answer can do without.
        last: until when it waits for the first arm, without which there is no answer, and for what can begin
            only when the list is there.
        times: that its own are counted in.
    """

    deadline: Deadline
    limit: Deadline
    last: Deadline
    times: AnswerTimes = field(default_factory=AnswerTimes)
    took_s: float = 0.0
    alone_s: float = 0.0

    @classmethod
    def make_single(cls, deadline: Deadline) -> "Slot":
        """Makes the slot of a search beside which no other runs."""
        limit = _leave_time_to_send(deadline)
        return cls(deadline, limit, limit)

    def leave_time_to_send(self) -> Deadline:
        """Returns until when the answer may be worked at from now on, so that it still arrives in time."""
        return _leave_time_to_send(self.deadline)

    @contextlib.contextmanager
    def measure_work(self) -> Iterator[None]:
        """Measures a piece of answering, which is everything that a search does after it has waited."""
        self.times.answering += 1
        before, began_s = self.times.answering, time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began_s
            self.took_s += seconds
            self.alone_s += 2 * seconds / (before + self.times.answering)
            self.times.answering -= 1


class AnswerSchedule:
    """Gives each search a slot of its own before its deadline. One serves a whole server, on one event loop.

    Searches that are late wake at their slots and not all at once: of 32 with one deadline, the last one
    keeps back what one answer takes, and the first one what 32 answers take.
    """

    def __init__(self) -> None:
        self._times = AnswerTimes()
        self._starts_s: list[float] = []

    @contextlib.contextmanager
    def take_slot(self, deadline: Deadline) -> Iterator[Slot]:
        """Yields a slot before ``deadline``, kept until the search has ended."""
        took, end = self._times.took, _leave_time_to_send(deadline)
        soonest_s = deadline.at_s - LARGEST_SHARE * deadline.remaining_s if deadline.timeout_s else 0.0
        start_s = max(soonest_s, self._free_before(end.at_s - took.high_s))
        last = Deadline(max(start_s, end.at_s - took.mean_s))
        slot = Slot(deadline, Deadline(start_s), last, self._times)
        insort(self._starts_s, start_s)
        try:
            yield slot
        finally:
            self._starts_s.remove(start_s)
            if slot.took_s:
                took.add(slot.took_s)
                self._times.alone.add(slot.alone_s)

    def _free_before(self, start_s: float) -> float:
        """Finds the latest moment, at ``start_s`` at the latest, at which no other search begins to
        answer."""
        apart_s = self._times.alone.mean_s + self._times.alone.deviation_s
        for other_s in reversed(self._starts_s):
            if other_s <= start_s - apart_s:
                break
            if other_s < start_s + apart_s:
                start_s = other_s - apart_s
        return start_s


def _leave_time_to_send(deadline: Deadline) -> Deadline:
    """Computes when an answer must be sent to arrive by ``deadline``."""
    wanted_s = SENDING_SHARE * deadline.remaining_s
    return deadline.move_sooner(min(LONGEST_SENDING_S, max(SHORTEST_SENDING_S, wanted_s)))
