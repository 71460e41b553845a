"""The examination of each rank, from the best source that the log has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quarry.clicks.examination.harvest import harvest_examination
from quarry.clicks.examination.ranks import is_conclusive
from quarry.clicks.examination.swaps import estimate_from_swaps
from quarry.clicks.log import ClickLog
from quarry.clicks.model import Examination
from quarry.clicks.models.pbm import estimate_position_based

Source = Literal["swaps", "harvest", "pbm"]

_SOURCES: Mapping[Source, tuple[Callable[[ClickLog], Examination], str]] = {
    "swaps": (
        estimate_from_swaps,
        "Examination is from exploration: hits that chance swapped with a neighbour. It assumes nothing "
        "of how relevant they are.",
    ),
    "harvest": (
        harvest_examination,
        "Examination is from pairs that were displayed at different ranks. It assumes that a pair's "
        "relevance did not change with what moved it.",
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class ChosenExamination:
    """A curve, and where it is from.

    Attributes:
        source: ``swaps``, ``harvest`` or ``pbm``.
        examination: the curve.
        notes: what it rests on, and why better sources were passed over, for people.
    """

    source: Source
    examination: Examination
    notes: tuple[str, ...]


def choose_examination(log: ClickLog) -> ChosenExamination:
    """Chooses swaps if they tell, else harvested interventions if they do, else the position-based model.

    A source tells if it knows the ranks that draw 90 % of the clicks within a factor of two
    (``is_conclusive``). Sources are not mixed: a curve pieced together would hide that its parts rest on
    different things.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    clicks = np.bincount(log.rank[log.clicked & log.shown] - 1, minlength=log.max_rank).astype(np.float64)
    passed: tuple[str, ...] = ()
    for source, (estimated, note) in _SOURCES.items():
        examination = estimated(log)
        if is_conclusive(examination, clicks):
            return ChosenExamination(source, examination, (note, *passed))
        passed = (*passed, f"Too little was told by {source}.")
    examination, notes = estimate_position_based(log)
    note = "Examination is from the position-based model, together with relevance."
    return ChosenExamination("pbm", examination, (note, *notes, *passed))
