"""gRPC rounds a caller's time up on its way: what is kept back for that covers it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry_server.common.context import LONGEST_WAY_S, undo_rounding


def sent(seconds: float) -> float:
    """What gRPC's C-core makes of a time-out: milliseconds, then units of 10 and 100 ms and of a second."""
    milliseconds = math.ceil(seconds * 1_000)
    unit = next(unit for unit in (1, 10, 100, 1_000) if unit == 1_000 or milliseconds < 1_000 * unit)
    return math.ceil(milliseconds / unit) * unit / 1_000


@given(timeout_s=st.floats(0.2, 900.0), way=st.floats(0.0, 1.0))
def test_the_rounding_of_a_deadline_is_taken_off_again(timeout_s: float, way: float) -> None:
    way_s = min(way * LONGEST_WAY_S, timeout_s / 2)
    remaining = sent(timeout_s) - way_s
    assert undo_rounding(remaining) <= timeout_s - way_s + 1e-9


def test_the_rounding_is_small_beside_the_time_that_is_left() -> None:
    for remaining, expected in ((0.3, 0.001), (2.0, 0.01), (20.0, 0.1), (200.0, 1.0)):
        assert remaining - undo_rounding(remaining) == pytest.approx(expected)
