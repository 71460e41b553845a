"""Losses over groups of documents of one query, with weights.

All take scores, shape ``(b, g)``, and a ``GroupBatch`` alike, and give one loss a group, shape ``(b,)``.
Formulas are those of the papers named; a negative's weight says how sure it is that it is one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quarry.training.spec import LossName

LAMBDA_MU = 10.0
TRIPLET_MARGIN = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class GroupBatch:
    """The facts about the documents of a batch of groups.

    Attributes:
        relevant: float, shape ``(b, g)``: 1 or 0.
        present: bool, shape ``(b, g)``: False where a shorter group is filled up.
        weights: float, shape ``(b, g)``: of each document, over 0.
        group_weights: float, shape ``(b,)``.
        teacher: float, shape ``(b, g)``: scores to learn, where a teacher has given them.
    """

    relevant: Tensor
    present: Tensor
    weights: Tensor
    group_weights: Tensor
    teacher: Tensor | None = None


Loss = Callable[[Tensor, GroupBatch], Tensor]


def compute_lce(scores: Tensor, batch: GroupBatch) -> Tensor:
    """Compares each relevant document with all that are not. Gao, Dai and Callan, ECIR 2021 (arXiv
    2101.08751).

    A negative of weight w counts as w negatives would.
    """
    positive = batch.relevant.bool() & batch.present
    negative = ~batch.relevant.bool() & batch.present
    rest = (scores + batch.weights.log()).masked_fill(~negative, -torch.inf).logsumexp(1, keepdim=True)
    each = functional.softplus(rest - scores)
    return _average(each, positive)


def compute_bce(scores: Tensor, batch: GroupBatch) -> Tensor:
    """Judges each document by itself; the relevant ones count as much as all others together."""
    each = functional.binary_cross_entropy_with_logits(scores, batch.relevant, reduction="none")
    positive = batch.relevant.bool() & batch.present
    negative = ~batch.relevant.bool() & batch.present
    return (_average(each, positive) + _average(each * batch.weights, negative)) / 2


def compute_ranknet(scores: Tensor, batch: GroupBatch) -> Tensor:
    """Compares each relevant document with each that is not. Burges et al., ICML 2005."""
    better, difference = _make_pairs(scores, batch)
    return _average(functional.softplus(-difference) * batch.weights[:, None, :], better)


def compute_lambda_loss(scores: Tensor, batch: GroupBatch) -> Tensor:
    """Computes NDCG-Loss2++ with mu of 10. Wang et al., CIKM 2018.

    Ranks are those of the present scores; gains are divided by the ideal DCG.
    """
    better, difference = _make_pairs(scores, batch)
    ranks = scores.masked_fill(~batch.present, -torch.inf).argsort(1, descending=True).argsort(1) + 1
    discount = (1 + ranks).float().log2()
    ideal = _compute_ideal_dcg(batch)
    gain = ((2.0**batch.relevant) - 1) / ideal[:, None]
    gains = (gain[:, :, None] - gain[:, None, :]).abs()
    distance = (ranks[:, :, None] - ranks[:, None, :]).abs().float()
    delta = (1 / (distance + 1).log2().clamp(min=1e-6) - 1 / (distance + 2).log2()).abs()
    delta = torch.where(distance > 0, delta, torch.zeros_like(delta))
    rho = (1 / discount[:, :, None] - 1 / discount[:, None, :]).abs()
    weight = (LAMBDA_MU * delta + rho) * gains * batch.weights[:, None, :]
    each = weight * functional.softplus(-difference) / torch.log(torch.tensor(2.0))
    return (each * better).sum((1, 2))


def compute_margin_triplet(scores: Tensor, batch: GroupBatch) -> Tensor:
    """Asks each relevant document to be ahead of each other one by 1."""
    better, difference = _make_pairs(scores, batch)
    return _average((TRIPLET_MARGIN - difference).clamp(min=0) * batch.weights[:, None, :], better)


def compute_margin_mse(scores: Tensor, batch: GroupBatch) -> Tensor:
    """Compares differences of scores with the teacher's. Hofstätter et al., 2020 (arXiv 2010.02666)."""
    if batch.teacher is None:
        raise ValueError("margin-mse has no teacher's scores")
    better, difference = _make_pairs(scores, batch)
    wanted = batch.teacher[:, :, None] - batch.teacher[:, None, :]
    return _average((difference - wanted) ** 2, better)


LOSSES: Mapping[LossName, Loss] = {
    "lce": compute_lce,
    "bce": compute_bce,
    "ranknet": compute_ranknet,
    "lambda": compute_lambda_loss,
    "margin-triplet": compute_margin_triplet,
    "margin-mse": compute_margin_mse,
}


def average_by_weight(each: Tensor, group_weights: Tensor) -> Tensor:
    """Averages the groups' losses by their weights: a number."""
    return (each * group_weights).sum() / group_weights.sum()


def _make_pairs(scores: Tensor, batch: GroupBatch) -> tuple[Tensor, Tensor]:
    """Makes pairs: which ``i`` is to be before which ``j``, and ``s_i - s_j``.

    Both of shape ``(b, g, g)``.
    """
    order = batch.relevant[:, :, None] > batch.relevant[:, None, :]
    better = order & batch.present[:, :, None] & batch.present[:, None, :]
    return better, scores[:, :, None] - scores[:, None, :]


def _average(each: Tensor, of: Tensor) -> Tensor:
    """Averages over all axes but the first, of the entries named."""
    axes = tuple(range(1, each.dim()))
    kept = torch.where(of, each, torch.zeros_like(each))
    return kept.sum(axes) / of.sum(axes).clamp(min=1)


def _compute_ideal_dcg(batch: GroupBatch) -> Tensor:
    ideal, _ = (batch.relevant * batch.present).sort(1, descending=True)
    places = torch.arange(2, ideal.shape[1] + 2, device=ideal.device).float().log2()
    return (((2.0**ideal) - 1) / places).sum(1).clamp(min=1e-6)
