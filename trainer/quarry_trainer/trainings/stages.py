"""The stages of a training, and how far each is in the progress of the whole."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

from quarry.jobs.child import ProgressReporter
from quarry_trainer.learning.training_loop import OnStep

Stage = Literal["candidates", "training", "evaluating"]
SHARES: dict[Stage, tuple[float, float]] = {
    "candidates": (0.0, 0.1),
    "training": (0.1, 0.75),
    "evaluating": (0.75, 1.0),
}
"""Where each stage begins and ends."""


class Stages:
    """Tells the server how far a training is."""

    def __init__(self, progress: ProgressReporter) -> None:
        self._progress = progress

    def report(self, stage: Stage, share: float, details: Mapping[str, float] | None = None) -> None:
        """Tells the server that so much of a stage is done, 0 to 1."""
        begin, end = SHARES[stage]
        self._progress(stage, begin + share * (end - begin), details)

    def make_counter(self, stage: Stage) -> Callable[[int, int], None]:
        """Makes what is told how many of how many are done."""

        def report_count(done: int, of: int) -> None:
            self.report(stage, done / of)

        return report_count

    def begin_training(self) -> OnStep:
        """Begins the training; returns what is told of its steps, and says how long it is going to take."""
        started = time.monotonic()

        def report_step(share: float, details: Mapping[str, float]) -> None:
            seconds = time.monotonic() - started
            self.report("training", share, {**details, "eta_s": seconds / share - seconds})

        self.report("training", 0.0)
        return report_step
