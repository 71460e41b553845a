"""Chooses the steps of a training that is not told how many to make."""

import math

from quarry.training.spec import MAX_EPOCH_STEPS

LEAST_STEPS = 50
"""A small set is read more than once."""


def choose_step_count(groups: int, groups_a_step: int) -> int:
    """Chooses enough to read so many groups once, within bounds."""
    return min(MAX_EPOCH_STEPS, max(LEAST_STEPS, math.ceil(groups / groups_a_step)))
