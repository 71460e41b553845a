"""Calls of a job are made again after growing pauses, and what they raise stays what it was."""

from collections.abc import Callable

import pytest

from quarry.errors import FailedPreconditionError, UnavailableError
from quarry.jobs.retrying import retry


class Call:
    """Raises the errors one after the other, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.left, self.made = list(errors), 0

    def __call__(self) -> str:
        self.made += 1
        if self.left:
            raise self.left.pop(0)
        return "answer"


def ask(call: Callable[[], str]) -> tuple[list[float], str]:
    """Returns the pauses, and the answer."""
    pauses: list[float] = []
    return pauses, retry(call, lambda error: isinstance(error, UnavailableError), "it", pauses.append)


def test_a_call_is_made_again_after_pauses_that_double() -> None:
    call = Call(*[UnavailableError("busy")] * 5)
    assert ask(call) == ([0.5, 1.0, 2.0, 4.0, 8.0], "answer")


def test_the_last_try_raises_its_own_error() -> None:
    call = Call(*[UnavailableError("busy")] * 5, UnavailableError("gone"))
    with pytest.raises(UnavailableError, match="gone"):
        ask(call)
    assert call.made == 6


def test_an_error_that_stays_is_raised_at_once() -> None:
    call = Call(UnavailableError("busy"), FailedPreconditionError("wrong"))
    with pytest.raises(FailedPreconditionError):
        ask(call)
    assert call.made == 2
