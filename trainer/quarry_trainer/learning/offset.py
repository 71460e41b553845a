"""The weight of the fused score beside a model that is yet to be trained."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.data.live import Float64
from quarry_trainer.evaluation.scoring import PairModel

NEW_OFFSET = 30.0
"""The multiple beside a model that is new. Fitted to mined examples it tells how they were mined: on medquad
78 by positives that clicks make certain, which stand first, 35 by the true judgments, and 0 by negatives that
were never shown (docs/explanation/learning.md)."""
FITTED_GROUPS = 64
"""Groups that the offset is fitted on; the model reads all of their pairs once."""
MOST = 1_000.0
"""Largest offset: from there on the fused order decides alone."""


def fit_offset(groups: Sequence[TextGroup], model: PairModel) -> float:
    """Finds the multiple of the fused score, 0 to ``MOST``, that explains best, beside what ``model`` says
    already, why positives come first.

    The likelihood is that of the training's own loss: a softmax over each group of the model's score and the
    multiple of the fused one (a conditional logit; McFadden 1974). The result has three digits: the last bits
    of a fused score depend on which queries were encoded together, and the same training is to make the same
    files.
    """
    some = select_groups(groups, FITTED_GROUPS)
    found = _score_groups(model, some)

    def compute_loss(offset: float) -> float:
        return -float(
            np.mean([_compute_log_chance(own, group, offset) for own, group in zip(found, some, strict=True)])
        )

    return float(f"{minimize_scalar(compute_loss, bounds=(0.0, MOST), method='bounded').x:.3g}")


def select_groups(groups: Sequence[TextGroup], most: int) -> list[TextGroup]:
    """Selects so many of them at most, at even distances."""
    places = np.linspace(0, len(groups) - 1, min(len(groups), most)).round().astype(int)
    return [groups[place] for place in places]


def _score_groups(model: PairModel, groups: Sequence[TextGroup]) -> list[Float64]:
    scores = model.score([(group.query, passage) for group in groups for passage in group.passages])
    flat = np.array([one.score for one in scores], np.float64)
    return np.split(flat, np.cumsum([len(group.passages) for group in groups])[:-1])


def _compute_log_chance(own: Float64, group: TextGroup, offset: float) -> float:
    """Computes the logarithm of the chance that the positive comes before what is not relevant in its
    group."""
    others = ~np.array(group.relevant, bool)
    others[0] = True
    blended = own + offset * np.array(group.fused, np.float64)
    return float(log_softmax(blended[others])[0])
