"""Groups to a loss, by a split cross-encoder: across pairs as any re-ranker, and over texts apart.

With what a token sees of the other text damped, a split cross-encoder is nearly an encoder of single texts.
Read so, the passages of a whole batch are negatives of each of its queries, for the cost of reading each
once (docs/training.md, What keeps it from harming, has what that is worth). Pairs are read beside it for what
two texts say only together.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from quarry.models.split_module import SplitModule
from quarry.training.spec import LossName
from quarry_trainer.contrastive import ContrastiveCollator, Vectors, contrastive_loss, positives_of
from quarry_trainer.dataset import TextGroup
from quarry_trainer.forms import SplitForm
from quarry_trainer.listwise import listwise
from quarry_trainer.loop import Trainable

Collate = Callable[[Sequence[TextGroup]], dict[str, Tensor]]

APART, TOGETHER = "apart_", "together_"
"""In front of the names of what each of the two readings takes."""
TOGETHER_GROUPS, TOGETHER_WEIGHT = 4, 0.3
"""Groups of a batch of which all pairs are read, and the weight of the loss over them."""
APART_NEGATIVES = 3
"""Mined negatives of a group that are read apart, one or more: each is read by every query of the batch."""


def apart_and_together(
    form: SplitForm, loss: LossName, learning_rate: float, offset: float, groups: Sequence[TextGroup]
) -> Trainable:
    """``form``, to be trained on batches of groups: of all of them apart, of some all pairs together.

    Args:
        loss: over pairs.
        offset: as ``listwise`` has it.
        groups: all that it is trained on.
    """
    together = listwise(form, loss, learning_rate, offset)
    apart = ContrastiveCollator(partial(states_apart, form), positives_of(groups))
    model = _Both(partial(vectors_apart, form.split), together.model)
    return Trainable(model, _Collator(apart, together.collate), together.parameters)


def states_apart(form: SplitForm, texts: Sequence[str]) -> list[Tensor]:
    """States after the lower layers, shape ``(n, length, width)``, and which of them are there."""
    states = [each.float() for each in form.states(texts)]
    mask = [torch.ones(len(each), dtype=torch.long) for each in states]
    return [nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (states, mask)]


def vectors_apart(split: SplitModule, states: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors of single texts, shape ``(n, width)``."""
    return functional.normalize(split.mean_alone(states, mask), dim=-1)


class _Both(nn.Module):
    """Holds the model once, as part of ``together``: a checkpoint may not have a weight under two names."""

    def __init__(self, vectors: Vectors, together: nn.Module) -> None:
        super().__init__()
        self._vectors, self.together = vectors, together

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        apart = contrastive_loss(self._vectors, _named(batch, APART))
        together = self.together(_named(batch, TOGETHER))["loss"]
        return {"loss": apart + TOGETHER_WEIGHT * together}


class _Collator:
    def __init__(self, apart: Collate, together: Collate) -> None:
        self._apart, self._together = apart, together

    def __call__(self, groups: Sequence[TextGroup]) -> dict[str, Tensor]:
        apart = self._apart(
            [group.take(range(min(len(group.passages), 1 + APART_NEGATIVES))) for group in groups]
        )
        together = self._together(groups[:TOGETHER_GROUPS])
        return _prefixed(APART, apart) | _prefixed(TOGETHER, together)


def _prefixed(prefix: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in batch.items()}


def _named(batch: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in batch.items() if name.startswith(prefix)}
