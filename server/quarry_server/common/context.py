"""The time that a call's context leaves."""

import math
from typing import Any

import grpc

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded

Context = grpc.aio.ServicerContext[Any, Any]


LONGEST_WAY_S = 0.25
"""Between sending a call and asking how much time it has left, as far as rounding is concerned."""


def resolve_deadline(context: Context, default_s: float) -> Deadline:
    """Resolves the caller's deadline, or ``default_s`` from now. Raises DeadlineExceeded if it has passed."""
    remaining = context.time_remaining()
    if remaining is None:
        return Deadline.set_after(default_s)
    remaining = undo_rounding(remaining)
    if remaining <= 0:
        raise DeadlineExceeded("the deadline had passed when the call arrived")
    return Deadline.set_after(remaining)


def undo_rounding(remaining: float) -> float:
    """Computes the seconds that a caller has left at least, of whose call gRPC says that ``remaining`` are
    left.

    gRPC sends a time-out in milliseconds below a second, and above it with three digits, rounded up: 1.001 s
    is 1.01 s, 10.01 s is 10.1 s and 100.1 s is 101 s by the time they arrive.
    """
    sent = remaining + LONGEST_WAY_S
    return remaining - (0.001 if sent < 1 else 10.0 ** (math.floor(math.log10(sent)) - 2))
