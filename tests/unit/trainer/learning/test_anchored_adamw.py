"""Weights that are anchored stay near to where they began; a checkpoint keeps the anchors."""

import torch
from torch import nn

from quarry_trainer.learning.anchored_adamw import AnchoredAdamW

START = torch.tensor([1.0, -2.0])


def moved(pull: float, steps: int = 50) -> torch.Tensor:
    """Where two weights end that a loss draws to (5, 5)."""
    weights = nn.Parameter(START.clone())
    optimizer = anchored(weights, pull)
    for _ in range(steps):
        pulled(weights, optimizer)
    return weights.detach()


def anchored(weights: nn.Parameter, pull: float) -> AnchoredAdamW:
    group = {"params": [weights], "lr": 0.05, "weight_decay": 0.0, "pull": pull, "anchors": [START.clone()]}
    return AnchoredAdamW([group])


def pulled(weights: nn.Parameter, optimizer: AnchoredAdamW) -> None:
    optimizer.zero_grad()
    ((weights - 5) ** 2).sum().backward()
    optimizer.step()


def test_the_pull_is_towards_where_training_began() -> None:
    far, near = moved(0.0), moved(3.0)
    assert (near > START).all() and (near < far).all()
    assert torch.equal(moved(0.0), by_adamw()), "without a pull it is AdamW"
    assert torch.allclose(moved(20.0), START), "all of the way back"


def by_adamw(steps: int = 50) -> torch.Tensor:
    weights = nn.Parameter(START.clone())
    optimizer = torch.optim.AdamW([weights], lr=0.05, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        ((weights - 5) ** 2).sum().backward()
        optimizer.step()
    return weights.detach()


def test_what_goes_on_from_a_checkpoint_is_pulled_to_the_first_start() -> None:
    weights = nn.Parameter(START.clone())
    optimizer = anchored(weights, 3.0)
    for _ in range(20):
        pulled(weights, optimizer)
    kept, state = weights.detach().clone(), optimizer.state_dict()
    resumed = nn.Parameter(kept)
    group = {"params": [resumed], "lr": 0.05, "weight_decay": 0.0, "pull": 3.0, "anchors": [kept.clone()]}
    other = AnchoredAdamW([group])
    other.load_state_dict(state)
    for _ in range(30):
        pulled(resumed, other)
    assert torch.allclose(resumed.detach(), moved(3.0))
