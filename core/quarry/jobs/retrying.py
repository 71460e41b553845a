"""Calls of a job to its server that are made again: that it is busy, or starts anew, is no reason to fail."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 6
FIRST_PAUSE_S = 0.5

Pause = Callable[[float], None]
"""Waits so many seconds."""


def retry(
    call: Callable[[], T], transient: Callable[[Exception], bool], name: str, pause: Pause = time.sleep
) -> T:
    """Makes ``call`` up to ``TRIES`` times, after pauses of 0.5, 1, 2, ... seconds, and returns what it
    gives.

    Raises what the last try raised, or the first that is not ``transient``.

    Args:
        name: is called, for the log.
    """
    for tried in range(1, TRIES):
        try:
            return call()
        except Exception as error:
            if not transient(error):
                raise
            logger.warning("%s did not answer, try %d", name, tried)
            pause(FIRST_PAUSE_S * 2 ** (tried - 1))
    return call()
