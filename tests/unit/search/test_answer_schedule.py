"""Until when searches may wait: figures worked by hand."""

import contextlib
import itertools
import math

import pytest

from quarry.deadline import Deadline
from quarry.search.answer_schedule import FIRST_GUESS_S, AnswerSchedule, AnswerTimes, MovingEstimate, Slot

MANY = 32


def test_an_estimate_follows_what_is_measured_as_tcp_does() -> None:
    estimate = MovingEstimate(1.0)
    assert (estimate.mean_s, estimate.deviation_s, estimate.high_s) == (1.0, 0.5, 3.0)
    estimate.add(3.0)
    assert estimate.mean_s == pytest.approx(1.25)  # an eighth of the way
    assert estimate.deviation_s == pytest.approx(0.875)  # a quarter of the way from 0.5 to 2
    for _ in range(200):
        estimate.add(0.5)
    assert estimate.high_s == pytest.approx(0.5)


def test_one_slow_answer_takes_little_of_the_time_of_others() -> None:
    schedule = AnswerSchedule()
    answer(schedule, 0.01, times=50)
    answer(schedule, 10.0)  # as after a SIGSTOP
    for _ in range(3):
        assert arms_time_s(schedule, 1.0) > 0.75
        answer(schedule, 0.01)


def test_an_answer_in_twenty_that_is_slow_leaves_arms_nearly_all_of_their_time() -> None:
    schedule = AnswerSchedule()
    for _ in range(50):
        answer(schedule, 0.01, times=19)
        answer(schedule, 1.0)
        assert arms_time_s(schedule, 1.0) > 0.75


@pytest.mark.parametrize("seconds", [0.5, 2.0, 10.0])
def test_slowness_that_lasts_is_learned_within_some_ten_searches(seconds: float) -> None:
    schedule = AnswerSchedule()
    answer(schedule, 0.005, times=200)
    answer(schedule, seconds, times=12)
    assert 1_000.0 - arms_time_s(schedule, 1_000.0) > seconds


def answer(schedule: AnswerSchedule, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        with schedule.take_slot(Deadline.set_after(1_000.0)) as slot:
            slot.took_s = slot.alone_s = seconds


def arms_time_s(schedule: AnswerSchedule, deadline_s: float) -> float:
    """How long a search that starts now waits for its arms."""
    deadline = Deadline.set_after(deadline_s)
    with schedule.take_slot(deadline) as slot:
        return deadline_s - (deadline.at_s - slot.limit.at_s)


def test_searches_with_one_deadline_wake_one_after_the_other() -> None:
    schedule, deadline = AnswerSchedule(), Deadline.set_after(10.0)
    with contextlib.ExitStack() as running:
        slots = [running.enter_context(schedule.take_slot(deadline)) for _ in range(MANY)]
    reserves_s = [deadline.at_s - slot.limit.at_s for slot in slots]
    apart_s = [later - sooner for sooner, later in itertools.pairwise(reserves_s)]
    assert min(apart_s) == pytest.approx(max(apart_s))
    assert min(apart_s) == pytest.approx(FIRST_GUESS_S / 4 * 1.5)  # mean and deviation of what one takes
    assert reserves_s[0] == pytest.approx(0.5 + 3 * FIRST_GUESS_S)  # sending, and answering itself
    with schedule.take_slot(deadline) as alone:  # those that have ended keep nothing
        assert alone.limit.at_s == pytest.approx(slots[0].limit.at_s)


def test_a_search_is_placed_between_others_that_leave_room() -> None:
    schedule, deadline = AnswerSchedule(), Deadline.set_after(10.0)
    with schedule.take_slot(deadline), schedule.take_slot(Deadline(deadline.at_s + 0.01)) as later:
        with schedule.take_slot(Deadline(deadline.at_s + 5.0)) as far:
            assert far.limit.at_s > later.limit.at_s + 4
        with schedule.take_slot(Deadline(deadline.at_s + 0.001)) as near:
            assert near.limit.at_s < deadline.at_s - 0.5 - 3 * FIRST_GUESS_S


def test_a_search_keeps_some_of_its_time_for_its_arms_however_many_run() -> None:
    schedule, deadline = AnswerSchedule(), Deadline.set_after(0.2)
    with contextlib.ExitStack() as running:
        slots = [running.enter_context(schedule.take_slot(deadline)) for _ in range(10 * MANY)]
    assert all(deadline.at_s - slot.limit.at_s <= 0.75 * 0.2 + 1e-9 for slot in slots)
    assert all(slot.limit.at_s <= slot.last.at_s < deadline.at_s for slot in slots)


def test_what_answering_takes_now_is_what_the_next_search_keeps_back() -> None:
    schedule, deadline = AnswerSchedule(), Deadline.set_after(1_000.0)
    with schedule.take_slot(deadline) as before:
        pass
    for _ in range(50):
        with schedule.take_slot(deadline) as slot:
            slot.took_s, slot.alone_s = 2.0, 1.0
    with schedule.take_slot(deadline) as after:
        assert deadline.at_s - after.limit.at_s == pytest.approx(2.5, abs=0.05)
    assert after.limit.at_s < before.limit.at_s - 1.5


def test_the_cost_of_one_answer_is_shared_by_those_that_answer_at_once() -> None:
    times = AnswerTimes()
    first, second = (Slot(Deadline(), Deadline(), Deadline(), times) for _ in range(2))
    with first.measure_work(), second.measure_work():
        assert times.answering == 2
    assert times.answering == 0
    assert second.alone_s == pytest.approx(second.took_s / 2)
    assert first.alone_s == pytest.approx(first.took_s * 2 / 2)  # it began alone and ended alone


def test_no_deadline_is_no_limit() -> None:
    schedule = AnswerSchedule()
    with schedule.take_slot(Deadline()) as one, schedule.take_slot(Deadline()) as other:
        assert one.limit.at_s == other.limit.at_s == one.last.at_s == math.inf
