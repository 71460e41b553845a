import math
import time

from hypothesis import given
from hypothesis import strategies as st

from quarry.deadline import Deadline


def test_no_deadline_is_no_timeout() -> None:
    for deadline in (Deadline(), Deadline.set_after(None), Deadline().move_sooner(1.0)):
        assert deadline.timeout_s is None
        assert deadline.remaining_s == math.inf


@given(seconds=st.floats(0.5, 1e9))
def test_what_remains_is_what_was_given_less_what_has_passed(seconds: float) -> None:
    before = time.monotonic()
    deadline = Deadline.set_after(seconds)
    remaining = deadline.remaining_s
    passed = time.monotonic() - before
    assert seconds - passed - 1e-3 <= remaining <= seconds + 1e-3
    assert deadline.move_sooner(0.25).at_s == deadline.at_s - 0.25


def test_a_deadline_that_has_passed_leaves_nothing() -> None:
    passed = Deadline.set_after(-1.0)
    assert passed.remaining_s == passed.timeout_s == 0.0


def test_at_most_never_lengthens() -> None:
    deadline = Deadline.set_after(10.0)
    assert deadline.limit_to(None) is deadline
    assert deadline.limit_to(100.0) == deadline
    assert deadline.limit_to(1.0).remaining_s <= 1.0
    assert Deadline().limit_to(1.0).remaining_s <= 1.0
