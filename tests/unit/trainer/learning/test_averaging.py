"""A model between where training began and where it ended."""

import pytest
import torch
from torch import nn

from quarry_trainer.learning.averaging import Averaging


def model() -> nn.Linear:
    made = nn.Linear(1, 1)
    with torch.no_grad():
        made.weight.fill_(1.0)
        made.bias.fill_(7.0)
    made.bias.requires_grad_(False)
    return made


def trained(share: float) -> tuple[nn.Linear, Averaging]:
    made = model()
    averaging = Averaging(made, share)
    with torch.no_grad():
        made.weight.fill_(3.0)
    return made, averaging


@pytest.mark.parametrize(("share", "weight"), [(1.0, 3.0), (0.5, 2.0), (0.25, 1.5)])
def test_weights_are_so_far_on_the_way(share: float, weight: float) -> None:
    made, averaging = trained(share)
    averaging.apply()
    assert made.weight.item() == pytest.approx(weight)
    assert made.bias.item() == 7.0


def test_training_goes_on_from_its_own_weights_after_a_measurement() -> None:
    made, averaging = trained(0.5)
    with averaging.use_average():
        assert made.weight.item() == pytest.approx(2.0)
    assert made.weight.item() == 3.0
    with pytest.raises(ZeroDivisionError), averaging.use_average():
        _ = 1 / 0
    assert made.weight.item() == 3.0


def test_a_model_that_training_has_moved_is_averaged_where_it_is() -> None:
    made, averaging = trained(0.5)
    made.to(torch.float64)  # as a move to a GPU, which a test cannot count on, it makes new parameters
    averaging.apply()
    assert made.weight.dtype == torch.float64
    assert made.weight.item() == pytest.approx(2.0)
