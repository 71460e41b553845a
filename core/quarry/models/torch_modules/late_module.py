"""The late-interaction re-ranker in torch: a frozen encoder, and little on top of it that is learned.

Every token of the query looks for the token of the passage that is most like it, in a space of few
dimensions, and rare tokens count more: the score is their weighted mean, scaled, and some of the cosine of
the two mean states, which is the encoder's own score. After ColBERT (Khattab and Zaharia, SIGIR 2020);
weights of tokens after BM25's, since a mean of all alike is led by words that every passage has.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quarry.errors import ModelError
from quarry.models.run_settings import LATE_KEY
from quarry.models.tokenization import TextTokenizer
from quarry.models.torch_modules.separate_files import (
    load_separate,
    open_bert,
    refuse_missing,
    save_separate,
    write_tokenizer,
)
from quarry.models.torch_modules.separate_layers import SeparateLayers, average_states

DIMENSION = 64
"""A token's vector has so many numbers."""
MAX_TOKENS = 512
"""So many tokens of a passage are counted at most."""
START_SCALE, START_DENSE = 10.0, 20.0
"""Factors of the tokens' part and of the cosine of the means, before training."""
LEAST_WEIGHT = 0.05
"""Before training, of a token that most passages have."""
SPECIAL_WEIGHT = 1e-3
"""Before training, of a token that stands for no text; a query that has no other is read by it."""
PREFIX = "late."
"""In front of the names of the head's weights in the file."""


class LateHead(nn.Module):
    """Scores from states of tokens.

    Attributes:
        projection: shape ``(dimension, width)``, and ``offset``, ``(dimension,)``: unit states to vectors.
        token_weights: shape ``(vocabulary,)``: logarithm of what a token of the query counts.
        log_scale: logarithm of the factor of the tokens' part.
        dense_weight: factor of the cosine of the mean states.
    """

    def __init__(self, width: int, vocabulary: int, dimension: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.zeros(dimension, width))
        self.offset = nn.Parameter(torch.zeros(dimension))
        self.token_weights = nn.Parameter(torch.zeros(vocabulary))
        self.log_scale = nn.Parameter(torch.tensor(START_SCALE).log())
        self.dense_weight = nn.Parameter(torch.tensor(START_DENSE))

    def make_vectors(self, states: Tensor) -> Tensor:
        """Makes unit vectors, shape ``(..., length, dimension)``."""
        unit = nn.functional.normalize(states.float(), dim=-1)
        return nn.functional.normalize(unit @ self.projection.T + self.offset, dim=-1)

    def forward(self, query: "Read", passage: "Read", query_ids: Tensor) -> Tensor:
        """Scores pairs, shape ``(batch,)``; ``query_ids`` are the tokens of the queries."""
        tokens, dense = self.compute_parts(query, passage, query_ids).unbind(-1)
        scores: Tensor = self.log_scale.exp() * tokens + self.dense_weight * dense
        return scores

    def compute_parts(self, query: "Read", passage: "Read", query_ids: Tensor) -> Tensor:
        """Computes what a score is the weighted sum of, shape ``(batch, 2)``: of tokens, and of the means."""
        alike = query.vectors @ passage.vectors.transpose(-1, -2)
        hidden = (1 - passage.mask.to(alike.dtype)).unsqueeze(-2) * 1e4
        nearest = (alike - hidden).amax(-1)
        weights = self.token_weights[query_ids].exp() * query.mask
        tokens = (weights * nearest).sum(-1) / weights.sum(-1).clamp(min=1e-9)
        return torch.stack([tokens, nn.functional.cosine_similarity(query.mean, passage.mean, dim=-1)], -1)

    def read(self, states: Tensor, mask: Tensor) -> "Read":
        """Reads what a score wants of texts; states of shape ``(batch, length, width)``."""
        return Read(self.make_vectors(states), mask, average_states(states.float(), mask))

    def compute_fingerprint(self) -> str:
        """Computes a hex hash of what vectors depend on: not of what is learned of queries alone."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.projection, self.offset):
            digest.update(f"{list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class Read:
    """Texts as they are compared: vectors ``(batch, length, dimension)``, mask and mean state."""

    def __init__(self, vectors: Tensor, mask: Tensor, mean: Tensor) -> None:
        self.vectors, self.mask, self.mean = vectors, mask, mean

    def take(self, rows: Tensor) -> "Read":
        return Read(self.vectors[rows], self.mask[rows], self.mean[rows])


class LateModule(SeparateLayers):
    """Token ids of pairs to scores, shape ``(batch,)``; inputs as ``SplitModule``'s. No layer is joint."""

    def __init__(self, transformer: nn.Module, head: LateHead) -> None:
        super().__init__(transformer, joint_layers=0)
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        input_ids, attention_mask, token_type_ids = inputs
        states = self.encode_separately(input_ids, attention_mask, token_type_ids)
        query = self.head.read(states, attention_mask * (1 - token_type_ids))
        passage = self.head.read(states, attention_mask * token_type_ids)
        scores: Tensor = self.head(query, passage, input_ids)
        return scores

    def compute_state_fingerprint(self) -> str:
        """Computes a hex hash: two models that have the same one keep the same of a passage."""
        return f"{self.compute_lower_fingerprint()}:{self.head.compute_fingerprint()}"


def make_late_model(encoder: Path, target: Path, dimension: int = DIMENSION, seed: int = 0) -> Path:
    """Writes an untrained late-interaction re-ranker made of the encoder in ``encoder``; returns ``target``.

    It orders about as the encoder does: orthogonal directions at random nearly keep cosines, and all tokens
    count alike but those that stand for no text. A training weighs them by ``measure_rareness``.

    Args:
        dimension: of a token's vector, at least 1; at most as many as a state has are made.

    Raises:
        ModelError: the encoder is no BERT.
    """
    transformer, config = open_bert(encoder)
    width = transformer.config.hidden_size
    dimension = min(dimension, width)
    head = LateHead(width, transformer.config.vocab_size, dimension)
    target.mkdir(parents=True, exist_ok=True)
    write_tokenizer(encoder, target)
    with torch.no_grad():
        random = np.random.default_rng(seed).standard_normal((width, dimension))
        head.projection.copy_(torch.from_numpy(np.linalg.qr(random)[0].T))
        tokenizer = TextTokenizer(target / "tokenizer.json", MAX_TOKENS)
        head.token_weights.copy_(torch.from_numpy(measure_rareness(tokenizer, (), len(head.token_weights))))
    save_late_model(LateModule(transformer, head), config, target)
    return target


def measure_rareness(
    tokenizer: TextTokenizer, passages: Sequence[str], vocabulary: int
) -> NDArray[np.float64]:
    """Measures the logarithm of each token's inverse document frequency (BM25's), shape ``(vocabulary,)``."""
    having = np.zeros(vocabulary)
    for tokens in tokenizer.encode_texts(passages):
        having[np.unique(tokens.ids)] += 1
    weights = np.maximum(np.log1p((len(passages) - having + 0.5) / (having + 0.5)), LEAST_WEIGHT)
    weights[tokenizer.list_special_ids()] = SPECIAL_WEIGHT
    return np.log(weights)


def save_late_model(module: LateModule, config: dict[str, Any], target: Path) -> None:
    """Writes weights and config; the tokenizer is there already."""
    weights = {PREFIX + name: tensor for name, tensor in module.head.state_dict().items()}
    own = {LATE_KEY: {"dimension": len(module.head.projection)}}
    save_separate(module.transformer, config, own, weights, target)


def load_late_module(folder: Path, attention: str) -> LateModule:
    """Loads the late-interaction re-ranker in ``folder``. Raises ModelError if weights are missing or of
    another shape than the config says."""
    transformer, settings, own = load_separate(folder, attention, LATE_KEY, PREFIX)
    width, vocabulary = transformer.config.hidden_size, transformer.config.vocab_size
    dimension = settings.get("dimension")
    shapes = {
        "projection": [dimension, width],
        "offset": [dimension],
        "token_weights": [vocabulary],
        "log_scale": [],
        "dense_weight": [],
    }
    refuse_missing(folder, [PREFIX + name for name in shapes if PREFIX + name not in own])
    if any(list(own[PREFIX + name].shape) != shape for name, shape in shapes.items()):
        raise ModelError(f"{folder} has weights of a late-interaction re-ranker that do not fit its config")
    head = LateHead(width, vocabulary, len(own[PREFIX + "offset"]))
    head.load_state_dict({name: own[PREFIX + name].float() for name in shapes})
    return LateModule(transformer, head).eval()
