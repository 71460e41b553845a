"""Groups to a loss, by an encoder: each query is to be nearest to its positive of all passages of a batch."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quarry.models.onnx_export import TOKENIZER_FILE
from quarry.models.packing import arrays
from quarry.models.settings import ModelKind, read_settings
from quarry.models.tokens import TextTokenizer
from quarry.models.torch_model import load_module
from quarry_trainer.dataset import TextGroup
from quarry_trainer.loop import Trainable
from quarry_trainer.losses import weighted

GROUPS_A_STEP = 32
GROUP_SIZE = 2
SCALE = 20.0
"""Of the cosines in the softmax: what such encoders were trained with."""
AWARE = 0.95
"""A passage of another query that is nearer than this share of the positive's cosine is taken for relevant
and not counted: the positive-aware rule of NV-Retriever (arXiv 2407.15831), within the batch."""
DECAY = 0.01
MISSED_TIMES = 3
"""How often an epoch reads a ``missed`` group (``TextGroup``): docs/flywheel.md, What was found, has why."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What answers a query in any group.

    Attributes:
        documents: their ids: another passage of one is no negative either.
        passages: their texts: a copy of one under another id has the same vector, and cannot be far away.
    """

    documents: set[str] = field(default_factory=set)
    passages: set[str] = field(default_factory=set)


Positives = Mapping[str, Answers]
"""By the text of the query."""

Inputs = Callable[[Sequence[str]], list[Tensor]]
"""What is read of texts; the first axis of each tensor is that of the texts."""
Vectors = Callable[..., Tensor]
"""From ``Inputs`` to unit vectors, shape ``(n, width)``."""


class EncoderInTraining:
    """An encoder and how it reads texts.

    Attributes:
        module: from ids, mask and types to unit vectors.
    """

    def __init__(self, folder: Path, max_tokens: int, seed: int) -> None:
        self._settings = read_settings(folder, ModelKind.ENCODER)
        torch.manual_seed(seed)
        self.folder, self.module = folder, load_module(folder, self._settings)
        limit = min(max_tokens, self._settings.max_tokens)
        self._tokenizer = TextTokenizer(folder / TOKENIZER_FILE, limit)

    def inputs(self, texts: Sequence[str]) -> list[Tensor]:
        settings = self._settings
        made = arrays(self._tokenizer.texts(texts), settings.pad_id, settings.token_types)
        return [torch.from_numpy(values) for values in made.values()]

    def save(self, folder: Path) -> None:
        """Writes the trained weights into a copy of the encoder's folder."""
        transformer: Any = self.module.transformer
        transformer.save_pretrained(folder / self._settings.weights)


def positives_of(groups: Iterable[TextGroup]) -> Positives:
    """Collects the answers of each query over all groups, so that none of them becomes its negative."""
    found: dict[str, Answers] = defaultdict(Answers)
    for group in groups:
        answers = found[group.query]
        for document, passage, relevant in zip(group.documents, group.passages, group.relevant, strict=True):
            if relevant:
                answers.documents.add(document)
                answers.passages.add(passage)
    return found


def contrastive(encoder: EncoderInTraining, learning_rate: float, positives: Positives) -> Trainable:
    """``encoder``, to be trained on groups."""
    parameters = list(encoder.module.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "lr": learning_rate, "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
    collate = ContrastiveCollator(encoder.inputs, positives)
    return Trainable(_Contrastive(encoder.module), collate, groups)


class _Contrastive(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": contrastive_loss(self.module, batch)}


def contrastive_loss(vectors: Vectors, batch: Mapping[str, Tensor]) -> Tensor:
    """InfoNCE over all passages of the batch, those left out that are likely to be relevant: a number."""
    cosines = vectors(*_inputs(batch, "query")) @ vectors(*_inputs(batch, "passage")).T
    own = batch["own"]
    nearest = cosines.detach()
    limit = AWARE * nearest.gather(1, own[:, None])
    kept = (nearest <= limit) | batch["mined"]
    kept &= ~batch["relevant"]
    kept.scatter_(1, own[:, None], True)
    logits = (SCALE * cosines).masked_fill(~kept, -torch.inf)
    each = functional.cross_entropy(logits, own, reduction="none")
    return weighted(each, batch["group_weights"])


class ContrastiveCollator:
    """Groups to what ``contrastive_loss`` takes: every query meets the passages of every group.

    A column is a passage, read once however many documents have it. It is relevant to a query if one of
    these documents answers it, or if the passage is that of one that does.
    """

    def __init__(self, inputs: Inputs, positives: Positives) -> None:
        self._inputs, self._positives = inputs, positives

    def __call__(self, groups: Sequence[TextGroup]) -> dict[str, Tensor]:
        groups = [group.take([0]) if group.pairs_only else group for group in groups]
        documents: dict[str, set[str]] = defaultdict(set)
        for group in groups:
            for document, passage in zip(group.documents, group.passages, strict=True):
                documents[passage].add(document)
        place = {passage: number for number, passage in enumerate(documents)}
        mined = torch.zeros(len(groups), len(place), dtype=torch.bool)
        for row, group in enumerate(groups):
            mined[row, [place[passage] for passage in group.passages[1:]]] = True
        relevant = torch.tensor(
            [[_answers(self._positives[g.query], *column) for column in documents.items()] for g in groups]
        )
        batch = {
            "own": torch.tensor([place[group.passages[0]] for group in groups]),
            "relevant": relevant,
            "mined": mined & ~relevant,
            "group_weights": torch.tensor([group.weight for group in groups]),
        }
        texts = {"query": [group.query for group in groups], "passage": list(place)}
        for name, some in texts.items():
            batch |= {f"{name}_{n}": tensor for n, tensor in enumerate(self._inputs(some))}
        return batch


def _answers(answers: Answers, passage: str, documents: Set[str]) -> bool:
    return passage in answers.passages or not answers.documents.isdisjoint(documents)


def _inputs(batch: Mapping[str, Tensor], name: str) -> list[Tensor]:
    return [tensor for key, tensor in batch.items() if key.startswith(f"{name}_")]
