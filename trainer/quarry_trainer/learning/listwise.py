"""Groups to a loss, by a re-ranker: all documents of a group are scored, the positive is to come first."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from quarry.training.spec import LossName
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.learning.losses import LOSSES, GroupBatch, average_by_weight
from quarry_trainer.learning.trainable_forms import Form
from quarry_trainer.learning.training_loop import Trainable

GROUPS_A_STEP = 8
GROUP_SIZE = 8
DECAY = 0.01
READ_TOGETHER = 16
"""Pairs that are filled up to one length. Pairs of like length are read together: of 64 pairs in one piece, a
third of what is computed would be filling."""


def make_listwise(form: Form, loss: LossName, learning_rate: float, offset: float = 0.0) -> Trainable:
    """Makes a trainable of ``form``, to be trained on groups.

    Args:
        offset: multiple of the fused score that is added to a score before the loss, so that the model learns
            what the first stage does not know. It serves with the same multiple.
    """
    model = _Listwise(form.module, loss, offset)
    return Trainable(model, _Collator(form), form.list_parameter_groups(learning_rate, DECAY))


class _Listwise(nn.Module):
    def __init__(self, module: nn.Module, loss: LossName, offset: float) -> None:
        super().__init__()
        self.module, self._loss, self._offset = module, LOSSES[loss], offset

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        known = _make_group_batch(batch)
        read = torch.cat([self.module(**inputs).float() for inputs in _read_inputs(batch)])
        scores = torch.zeros_like(known.relevant)
        scores[known.present] = read[batch["place"]]
        each = self._loss(scores + self._offset * batch["fused"], known)
        return {"loss": average_by_weight(each, known.group_weights)}


class _Collator:
    """Groups to tensors. Shorter groups are filled up, and what fills them is not scored."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def __call__(self, groups: Sequence[TextGroup]) -> dict[str, Tensor]:
        size = max(len(group.passages) for group in groups)
        pairs = [(group.query, passage) for group in groups for passage in group.passages]
        present = torch.zeros(len(groups), size, dtype=torch.bool)
        for row, group in enumerate(groups):
            present[row, : len(group.passages)] = True
        batch = {
            "relevant": _fill([g.relevant for g in groups], size, 0.0),
            "present": present,
            "weights": _fill([g.weights for g in groups], size, 1.0),
            "fused": _fill([g.fused for g in groups], size, 0.0),
            "group_weights": torch.tensor([g.weight for g in groups]),
        }
        if all(group.teacher for group in groups):
            batch["teacher"] = _fill([g.teacher for g in groups], size, 0.0)
        return batch | self._read(pairs)

    def _read(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """Reads what the module reads, in parts of pairs of like length, and the place of each pair's
        score."""
        order = sorted(range(len(pairs)), key=lambda at: sum(map(len, pairs[at])))
        place = torch.empty(len(pairs), dtype=torch.long)
        place[order] = torch.arange(len(pairs))
        made = {"place": place}
        for part, start in enumerate(range(0, len(order), READ_TOGETHER)):
            some = [pairs[at] for at in order[start : start + READ_TOGETHER]]
            made |= {
                f"{_make_prefix(part)}{name}": value for name, value in self._form.make_inputs(some).items()
            }
        return made


def _make_prefix(part: int) -> str:
    """Makes the prefix of the names of what the re-ranker reads of one part of the pairs."""
    return f"input_{part}_"


def _read_inputs(batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Reads what the module reads of each part, in order."""
    parts: list[dict[str, Tensor]] = []
    while True:
        prefix = _make_prefix(len(parts))
        found = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
        if not found:
            return parts
        parts.append(found)


def _make_group_batch(batch: dict[str, Tensor]) -> GroupBatch:
    return GroupBatch(
        batch["relevant"],
        batch["present"],
        batch["weights"],
        batch["group_weights"],
        batch.get("teacher"),
    )


def _fill(rows: Sequence[Sequence[float]], size: int, value: float) -> Tensor:
    filled = torch.full((len(rows), size), value)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = torch.tensor(row, dtype=torch.float32)
    return filled
