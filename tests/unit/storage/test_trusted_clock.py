"""The clock of a data folder follows the machine's, and never jumps ahead with it."""

import pytest

from quarry.storage.trusted_clock import DAY_US, TrustedClock

HOUR_US = DAY_US // 24


class Machine:
    """A wall clock that the test sets, and the mark that the folder keeps."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.mark: str | None = None

    def clock(self, newest_us: int | None = None) -> TrustedClock:
        return TrustedClock(self.mark, newest_us, self._save, lambda: self.now_us)

    def _save(self, mark: str) -> None:
        self.mark = mark


def test_it_goes_with_a_clock_that_is_right() -> None:
    machine = Machine(1_000 * DAY_US)
    clock = machine.clock()
    for hour in range(1, 50):
        machine.now_us = 1_000 * DAY_US + hour * HOUR_US
        clock.follow_wall()
        assert clock.now_us == machine.now_us


@pytest.mark.parametrize("ahead_days", [2, 730])
def test_a_jump_while_it_runs_moves_it_by_a_day(ahead_days: int) -> None:
    machine = Machine(1_000 * DAY_US)
    clock = machine.clock()
    machine.now_us += ahead_days * DAY_US
    clock.follow_wall()
    assert clock.now_us == 1_001 * DAY_US


def test_starts_with_a_wrong_clock_move_it_by_a_day_in_all(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(1_000 * DAY_US)
    machine.clock()
    machine.now_us += 730 * DAY_US
    for _ in range(20):
        machine.now_us += 1_000_000
        assert machine.clock().now_us <= 1_001 * DAY_US + 40_000_000
    assert "729.0 days ahead" in caplog.text


def test_it_catches_up_at_twice_the_speed_and_not_beyond() -> None:
    machine = Machine(1_000 * DAY_US)
    machine.clock()
    machine.now_us += 3 * DAY_US
    clock = machine.clock()
    for hour in range(1, 100):
        machine.now_us += HOUR_US
        clock.follow_wall()
        assert clock.now_us == min(machine.now_us, (1_001 * DAY_US) + 2 * hour * HOUR_US)
    assert clock.now_us == machine.now_us


def test_a_clock_that_is_put_back_is_believed() -> None:
    machine = Machine(1_000 * DAY_US)
    machine.clock()
    machine.now_us -= 500 * DAY_US
    assert machine.clock().now_us == machine.now_us


def test_a_folder_without_the_mark_starts_at_its_newest_record() -> None:
    machine = Machine(2_000 * DAY_US)
    assert machine.clock(newest_us=1_000 * DAY_US).now_us == 1_000 * DAY_US
