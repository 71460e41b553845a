"""Groups to a loss, by an encoder: each query is to be nearest to its positive of all passages of a batch."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from quarry.models.export.onnx_export import TOKENIZER_FILE
from quarry.models.run_settings import ModelKind, read_settings
from quarry.models.runtime.packing import make_arrays
from quarry.models.tokenization import TextTokenizer
from quarry.models.torch_modules.torch_model import load_module
from quarry.questions import make_question_key
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.learning.losses import average_by_weight
from quarry_trainer.learning.training_loop import Trainable

GROUPS_A_STEP = 32
GROUP_SIZE = 2
SCALE = 20.0
"""Of the cosines in the softmax: what such encoders were trained with."""
AWARE = 0.95
"""A passage of another query is taken for relevant, and not counted, if the teacher finds it nearer to the
query than this share of the positive's cosine: the positive-aware rule of NV-Retriever (arXiv 2407.15831)."""
DECAY = 0.01
ENCODED_TOGETHER = 64
TEACHER_BYTES = 2**30
"""Most memory for vectors of the teacher: some 700,000 of 384 numbers."""


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """The passages that answer a query in any group.

    Attributes:
        documents: their ids: another passage of one is no negative either.
        passages: their texts: a copy of one under another id has the same vector, and cannot be far away.
    """

    documents: set[str] = field(default_factory=set)
    passages: set[str] = field(default_factory=set)


Positives = Mapping[str, KnownAnswers]
"""By the text of the query."""

Inputs = Callable[[Sequence[str]], list[Tensor]]
"""What is read of texts; the first axis of each tensor is that of the texts."""
Vectors = Callable[[Sequence[str]], NDArray[np.float32]]
"""From texts to unit vectors, shape ``(n, width)``."""


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

    @property
    def device(self) -> torch.device:
        """The device that the weights are on now: a training on a GPU moves them."""
        return next(self.module.parameters()).device

    def make_inputs(self, texts: Sequence[str]) -> list[Tensor]:
        settings = self._settings
        made = make_arrays(self._tokenizer.encode_texts(texts), settings.pad_id, settings.token_types)
        return [torch.from_numpy(values) for values in made.values()]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes unit vectors by the weights as they are now, shape ``(n, width)``. Blocks."""
        device, training = self.device, self.module.training
        self.module.eval()
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        made: dict[int, NDArray[np.float32]] = {}
        with torch.no_grad():
            for start in range(0, len(order), ENCODED_TOGETHER):
                some = order[start : start + ENCODED_TOGETHER]
                inputs = [tensor.to(device) for tensor in self.make_inputs([texts[place] for place in some])]
                made |= zip(some, self.module(*inputs).cpu().numpy(), strict=True)
        self.module.train(training)
        return np.stack([made[place] for place in range(len(texts))])

    def save(self, folder: Path) -> None:
        """Writes the trained weights into a copy of the encoder's folder."""
        transformer: Any = self.module.transformer
        transformer.save_pretrained(folder / self._settings.weights)


def make_teacher(untrained: EncoderInTraining, trained: EncoderInTraining) -> Vectors:
    """Makes vectors by the encoder as it was, on the device that the one in training is on by then."""

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        untrained.module.to(trained.device)
        return untrained.encode(texts)

    return remember(encode)


def remember(encode: Vectors, limit_bytes: int = TEACHER_BYTES) -> Vectors:
    """Remembers ``encode`` of a model that does not change, each text once as long as ``limit_bytes`` hold
    the vectors of the texts that were asked for since."""
    kept: LRUCache[str, NDArray[np.float32]] = LRUCache(limit_bytes, lambda vector: vector.nbytes)

    def encode_remembered(texts: Sequence[str]) -> NDArray[np.float32]:
        some = list(dict.fromkeys(texts))
        known = {text: vector for text in some if (vector := kept.get(text)) is not None}
        missing = [text for text in some if text not in known]
        if missing:
            for text, vector in zip(missing, encode(missing), strict=True):
                known[text] = vector.copy()  # a view would hold the vectors of all that are missing
                if vector.nbytes <= kept.maxsize:
                    kept[text] = known[text]
        return np.stack([known[text] for text in texts])

    return encode_remembered


def collect_positives(groups: Iterable[TextGroup]) -> Positives:
    """Collects the answers of each ``make_question_key`` over all groups: none of them becomes its
    negative."""
    found: dict[str, KnownAnswers] = defaultdict(KnownAnswers)
    for group in groups:
        answers = found[make_question_key(group.query)]
        for document, passage, relevant in zip(group.documents, group.passages, group.relevant, strict=True):
            if relevant:
                answers.documents.add(document)
                answers.passages.add(passage)
    return found


def make_contrastive(
    encoder: EncoderInTraining, learning_rate: float, positives: Positives, teacher: Vectors
) -> Trainable:
    """Makes a trainable of ``encoder``, to be trained on groups.

    Args:
        teacher: says which passages of other queries are too near to a query to be its negatives. Not the
            encoder in training itself, which would hide from itself whatever it gets wrong.
    """
    parameters = list(encoder.module.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "lr": learning_rate, "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
    collate = ContrastiveCollator(encoder.make_inputs, positives, teacher)
    return Trainable(_Contrastive(encoder.module), collate, groups)


class _Contrastive(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": compute_contrastive_loss(self.module, batch)}


def compute_contrastive_loss(module: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Computes InfoNCE of each query over the passages of the batch that are ``kept`` for it: a number."""
    cosines = module(*_read_inputs(batch, "query")) @ module(*_read_inputs(batch, "passage")).T
    logits = (SCALE * cosines).masked_fill(~batch["kept"], -torch.inf)
    each = functional.cross_entropy(logits, batch["own"], reduction="none")
    return average_by_weight(each, batch["group_weights"])


class ContrastiveCollator:
    """Groups to what ``compute_contrastive_loss`` takes: every query meets the passages of every group.

    A column is a passage, read once however many documents have it. It is relevant to a query if one of
    these documents answers it, or if the passage is that of one that does. What is relevant is no negative,
    nor is what the teacher takes for relevant, unless it was mined for the query.
    """

    def __init__(self, inputs: Inputs, positives: Positives, teacher: Vectors) -> None:
        self._inputs, self._positives, self._teacher = inputs, positives, teacher

    def __call__(self, groups: Sequence[TextGroup]) -> dict[str, Tensor]:
        documents: dict[str, set[str]] = defaultdict(set)
        for group in groups:
            for document, passage in zip(group.documents, group.passages, strict=True):
                documents[passage].add(document)
        place = {passage: number for number, passage in enumerate(documents)}
        mined = torch.zeros(len(groups), len(place), dtype=torch.bool)
        for row, group in enumerate(groups):
            mined[row, [place[passage] for passage in group.passages[1:]]] = True
        own_answers = [self._positives[make_question_key(group.query)] for group in groups]
        relevant = torch.tensor(
            [[_is_answer(answers, *column) for column in documents.items()] for answers in own_answers]
        )
        own = torch.tensor([place[group.passages[0]] for group in groups])
        texts = {"query": [group.query for group in groups], "passage": list(place)}
        kept = (mined | self._find_far(texts["query"], texts["passage"], own)) & ~relevant
        batch = {
            "own": own,
            "kept": kept.scatter(1, own[:, None], True),
            "group_weights": torch.tensor([group.weight for group in groups]),
        }
        for name, some in texts.items():
            batch |= {f"{name}_{n}": tensor for n, tensor in enumerate(self._inputs(some))}
        return batch

    def _find_far(self, queries: Sequence[str], passages: Sequence[str], own: Tensor) -> Tensor:
        """Finds whether the teacher finds each passage farther from each query than its positive, by
        enough."""
        vectors = torch.from_numpy(self._teacher([*queries, *passages]))
        cosines = vectors[: len(queries)] @ vectors[len(queries) :].T
        positive = cosines.gather(1, own[:, None])
        return cosines <= positive - (1 - AWARE) * positive.abs()


def _is_answer(answers: KnownAnswers, passage: str, documents: Set[str]) -> bool:
    return passage in answers.passages or not answers.documents.isdisjoint(documents)


def _read_inputs(batch: Mapping[str, Tensor], name: str) -> list[Tensor]:
    return [tensor for key, tensor in batch.items() if key.startswith(f"{name}_")]
