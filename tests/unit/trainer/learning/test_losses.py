"""Losses against worked examples, and what all of them must have in common."""

import math

import pytest
import torch
from torch import Tensor

from quarry.training.spec import LossName
from quarry_trainer.learning.losses import (
    LOSSES,
    GroupBatch,
    average_by_weight,
    compute_lce,
    compute_margin_mse,
    compute_margin_triplet,
    compute_ranknet,
)

RANKING: list[LossName] = ["lce", "bce", "ranknet", "lambda", "margin-triplet"]


def batch(relevant: list[list[float]], **changed: Tensor) -> GroupBatch:
    values = torch.tensor(relevant)
    return GroupBatch(
        values,
        changed.get("present", torch.ones_like(values, dtype=torch.bool)),
        changed.get("weights", torch.ones_like(values)),
        torch.ones(len(relevant)),
        changed.get("teacher"),
    )


def test_lce_is_the_cross_entropy_of_the_positive() -> None:
    scores = torch.tensor([[2.0, 1.0, -1.0]])
    expected = -math.log(math.e**2 / (math.e**2 + math.e + math.e**-1))
    assert compute_lce(scores, batch([[1.0, 0.0, 0.0]])).item() == pytest.approx(expected)


def test_a_negative_of_weight_two_counts_as_two_in_lce() -> None:
    twice = compute_lce(torch.tensor([[0.5, 1.0, 1.0]]), batch([[1.0, 0.0, 0.0]]))
    heavy = compute_lce(torch.tensor([[0.5, 1.0]]), batch([[1.0, 0.0]], weights=torch.tensor([[1.0, 2.0]])))
    assert twice.item() == pytest.approx(heavy.item())


def test_relevant_documents_do_not_compete_in_lce() -> None:
    alone = compute_lce(torch.tensor([[2.0, 0.0]]), batch([[1.0, 0.0]]))
    both = compute_lce(torch.tensor([[2.0, 2.0, 0.0]]), batch([[1.0, 1.0, 0.0]]))
    assert both.item() == pytest.approx(alone.item())


def test_ranknet_is_logistic_in_the_difference() -> None:
    assert compute_ranknet(torch.tensor([[1.0, 0.0]]), batch([[1.0, 0.0]])).item() == pytest.approx(
        math.log(1 + math.exp(-1))
    )


def test_the_triplet_asks_for_a_margin_of_one() -> None:
    losses = compute_margin_triplet(torch.tensor([[1.5, 0.0], [0.25, 0.0]]), batch([[1.0, 0.0], [1.0, 0.0]]))
    assert losses.tolist() == pytest.approx([0.0, 0.75])


def test_margin_mse_learns_the_teachers_difference() -> None:
    taught = batch([[1.0, 0.0]], teacher=torch.tensor([[5.0, 2.0]]))
    assert compute_margin_mse(torch.tensor([[1.0, -2.0]]), taught).item() == pytest.approx(0.0)
    assert compute_margin_mse(torch.tensor([[1.0, 0.0]]), taught).item() == pytest.approx(4.0)


def test_lambda_loss_of_two_documents() -> None:
    """Ranks 2 and 1, one apart: both discounts differ by 1 - 1 / log2(3), and the ideal DCG is 1."""
    apart = 1 - 1 / math.log2(3)
    expected = (10 * apart + apart) * math.log2(1 + math.e)
    found = LOSSES["lambda"](torch.tensor([[0.0, 1.0]]), batch([[1.0, 0.0]])).item()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", RANKING)
def test_a_better_order_costs_less(name: LossName) -> None:
    known = batch([[1.0, 0.0, 0.0]])
    right, wrong = (
        LOSSES[name](torch.tensor([s]), known).item() for s in ([2.0, 0.0, -1.0], [-1.0, 0.0, 2.0])
    )
    assert right < wrong


@pytest.mark.parametrize("name", RANKING)
def test_what_fills_a_group_up_is_not_seen(name: LossName) -> None:
    short = LOSSES[name](torch.tensor([[1.0, 0.5]]), batch([[1.0, 0.0]]))
    filled = batch([[1.0, 0.0, 0.0]], present=torch.tensor([[True, True, False]]))
    for filling in (0.0, 100.0):
        long = LOSSES[name](torch.tensor([[1.0, 0.5, filling]]), filled)
        assert long.item() == pytest.approx(short.item(), abs=1e-6)


@pytest.mark.parametrize("name", RANKING)
def test_a_heavier_negative_costs_more(name: LossName) -> None:
    scores = torch.tensor([[0.0, 0.5, -3.0]])
    heavy = batch([[1.0, 0.0, 0.0]], weights=torch.tensor([[1.0, 3.0, 1.0]]))
    assert LOSSES[name](scores, heavy).item() > LOSSES[name](scores, batch([[1.0, 0.0, 0.0]])).item()


@pytest.mark.parametrize("name", RANKING)
def test_its_gradient_is_finite_and_points_up_for_the_positive(name: LossName) -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0]], requires_grad=True)
    LOSSES[name](scores, batch([[1.0, 0.0, 0.0]])).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 0] < 0


def test_groups_count_by_their_weight() -> None:
    assert average_by_weight(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0])).item() == pytest.approx(
        7 / 4
    )
