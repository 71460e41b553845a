"""Groups to a loss, by a split cross-encoder: across pairs as any re-ranker, and over texts apart.

With what a token sees of the other text damped, a split cross-encoder is nearly an encoder of single texts.
Read so, the passages of a whole batch are negatives of each of its queries, for the cost of reading each
once, and it learns far more from the same clicks (docs/training.md, How it learns). Pairs are read beside it
for what two texts say only together.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from quarry.models.split_module import SplitModule
from quarry.training.spec import LossName
from quarry_trainer.contrastive import contrastive, positives_of
from quarry_trainer.dataset import TextGroup
from quarry_trainer.forms import SplitForm
from quarry_trainer.listwise import DECAY, listwise
from quarry_trainer.loop import Trainable

APART, TOGETHER = "apart_", "together_"
"""In front of the names of what each of the two readings takes."""
TOGETHER_GROUPS, TOGETHER_WEIGHT = 4, 0.3
"""Groups of a batch of which all pairs are read, and the weight of the loss over them."""
MINED_APART = 0
"""Mined negatives that are read apart. They would be pushed away from every query, and a document that
answers no query in training would be nothing but a negative: with one a group, queries for such documents
lost more."""


def apart_and_together(
    form: SplitForm, loss: LossName, learning_rate: float, offset: float, groups: Sequence[TextGroup]
) -> Trainable:
    """``form``, to be trained on batches of groups: of all the positives apart, of some all pairs together.

    Args:
        loss: over pairs.
        offset: as ``listwise`` has it.
        groups: all that it is trained on.
    """
    apart = contrastive(TextsApart(form), learning_rate, positives_of(groups), MINED_APART)
    together = listwise(form, loss, learning_rate, offset)
    parameters = form.parameter_groups(learning_rate, DECAY)
    return Trainable(_Both(apart.model, together.model), _Collator(apart, together), parameters)


class TextsApart:
    """A split cross-encoder as an encoder of single texts, through all its layers; see ``Vectors``."""

    def __init__(self, form: SplitForm) -> None:
        self._form = form
        self.module = _Apart(form.split)

    def inputs(self, texts: Sequence[str]) -> list[Tensor]:
        """States after the lower layers, shape ``(n, length, width)``, and which of them are there."""
        states = [each.float() for each in self._form.states(texts)]
        mask = [torch.ones(len(each), dtype=torch.long) for each in states]
        return [nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (states, mask)]


class _Apart(nn.Module):
    def __init__(self, split: SplitModule) -> None:
        super().__init__()
        self.split = split

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return functional.normalize(self.split.mean_alone(states, mask), dim=-1)


class _Both(nn.Module):
    def __init__(self, apart: nn.Module, together: nn.Module) -> None:
        super().__init__()
        self.apart, self.together = apart, together

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        apart = self.apart(_named(batch, APART))["loss"]
        together = self.together(_named(batch, TOGETHER))["loss"]
        return {"loss": apart + TOGETHER_WEIGHT * together}


class _Collator:
    def __init__(self, apart: Trainable, together: Trainable) -> None:
        self._apart, self._together = apart.collate, together.collate

    def __call__(self, groups: Sequence[TextGroup]) -> dict[str, Tensor]:
        apart = self._apart(groups)
        together = self._together(groups[:TOGETHER_GROUPS])
        return _prefixed(APART, apart) | _prefixed(TOGETHER, together)


def _prefixed(prefix: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in batch.items()}


def _named(batch: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in batch.items() if name.startswith(prefix)}
