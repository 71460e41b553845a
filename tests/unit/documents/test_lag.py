"""How old the oldest write is that searches do not find: sequences worked by hand."""

import pytest

from quarry.documents.lag import Lag


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag(clock: Clock) -> Lag:
    lag = Lag(clock)
    lag.note_reading()
    lag.read(0)
    return lag


def test_an_index_without_writes_is_not_behind(lag: Lag, clock: Clock) -> None:
    clock.now_s += 1_000
    lag.note_found(0)
    assert lag.seconds == 0


def test_a_write_counts_from_when_it_was_made_until_it_is_found(lag: Lag, clock: Clock) -> None:
    lag.note_write()
    clock.now_s += 3
    assert lag.seconds == 3
    lag.note_reading()
    lag.read(1)
    clock.now_s += 4
    assert lag.seconds == 7
    lag.note_found(1)
    assert lag.seconds == 0


def test_a_write_that_came_after_the_read_is_as_old_as_the_read_at_most(lag: Lag, clock: Clock) -> None:
    lag.note_write()
    clock.now_s += 3
    lag.note_reading()
    lag.read(1)
    clock.now_s += 1
    lag.note_write()
    clock.now_s += 1
    lag.note_found(1)
    assert lag.seconds == 2


def test_an_index_that_follows_a_steady_stream_at_a_distance_is_as_late_as_that(
    lag: Lag, clock: Clock
) -> None:
    """One write a second, each found four seconds later, for an hour: it is not an hour behind."""
    worst_s = 0.0
    for second in range(1, 3_600):
        lag.note_write()
        lag.note_reading()
        lag.read(second)
        lag.note_found(max(0, second - 4))
        clock.now_s += 1
        worst_s = max(worst_s, lag.seconds)
        assert lag.seconds >= min(second, 4)
    assert worst_s <= 10


def test_an_index_that_was_started_again_is_behind_from_then_on(lag: Lag, clock: Clock) -> None:
    lag.note_write()
    lag.note_reading()
    lag.read(9)
    lag.note_found(9)
    lag.note_found(2)
    lag.note_reading()
    lag.read(9)
    clock.now_s += 5
    assert lag.seconds == 5
