"""The start of a late-interaction re-ranker's training: the best sum of what it has before."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.data.live import Float64
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.offset import select_groups

MOST_GROUPS = 200
"""That are read before training. Their states are made only once, and training needs most of them."""
START = (10.0, 10.0)
MOST = (200.0, 200.0)
"""Largest weights of the tokens' part and of the cosine of the means."""
LEAST_SCALE = 0.1
"""Of the tokens' part, which is what is learned: at 0 nothing would be."""
SHRINK = 1e-5
"""Of the squares of the weights; two of them may say the same."""


def fit_start(form: LateForm, groups: Sequence[TextGroup], fused: float) -> None:
    """Weighs tokens by how rare they are in ``groups``, and sets the factors of both parts of the score.

    The factors explain best, beside ``fused`` times the fused score, why positives come first: the likelihood
    is that of the training's own loss (a conditional logit; McFadden 1974).
    """
    form.weigh_tokens({passage for group in groups for passage in group.passages})
    some = [_Group(form, group, fused) for group in select_groups(groups, MOST_GROUPS)]
    bounds = [(LEAST_SCALE, MOST[0]), (0.0, MOST[1])]

    def compute_loss(weights: Float64) -> tuple[float, Float64]:
        each = [one.compute_loss(weights) for one in some]
        value = sum(value for value, _ in each) / len(each) + SHRINK * float(weights @ weights)
        return value, np.mean([slope for _, slope in each], axis=0) + 2 * SHRINK * weights

    tokens, dense = minimize(compute_loss, START, jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    form.set_factors(tokens, dense)


class _Group:
    """The documents of a group, the positive first: both parts of the score, shape
    ``(n, 2)``, and what the fused score adds, shape ``(n,)``."""

    def __init__(self, form: LateForm, group: TextGroup, fused: float) -> None:
        kept = [not relevant for relevant in group.relevant]
        kept[0] = True
        with torch.no_grad():
            parts = form.compute_parts([(group.query, passage) for passage in group.passages])
        self._parts = parts.double().numpy()[kept]
        self._added = fused * np.array(group.fused, np.float64)[kept]

    def compute_loss(self, weights: Float64) -> tuple[float, Float64]:
        """Computes how unlikely it is that the positive comes first, and the slope."""
        chances = log_softmax(self._parts @ weights + self._added)
        return -float(chances[0]), np.exp(chances) @ self._parts - self._parts[0]
