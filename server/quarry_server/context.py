"""What a call's context says: how much time there is."""

from typing import Any

import grpc

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded

Context = grpc.aio.ServicerContext[Any, Any]


def deadline_of(context: Context, default_s: float) -> Deadline:
    """The caller's deadline, or ``default_s`` from now. Raises DeadlineExceeded if it has passed."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceeded("the deadline had passed when the call arrived")
    return Deadline.after(default_s if remaining is None else remaining)
