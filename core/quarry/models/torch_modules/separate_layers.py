"""The layers of a BERT that read each text by itself, and what all models that are made of them share.

What they make of a text depends on nothing else, so it is computed once, and kept.
"""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

from quarry.errors import ModelError

CONFIG = ("hidden_act", "layer_norm_eps", "num_attention_heads")
"""What the layers' states depend on beside their weights."""
MASKED = -1e4
"""Added to the attention logit of what a token must not see."""


class SeparateLayers(nn.Module):
    """The lower layers of ``transformer``: all but the last ``joint_layers``.

    Attributes:
        layers: how many there are, joint ones included.
        width: of a token's state.
    """

    def __init__(self, transformer: nn.Module, joint_layers: int) -> None:
        """Raises ModelError if there are fewer layers."""
        super().__init__()
        layers = len(transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        if not 0 <= joint_layers <= layers:
            raise ModelError(f"{joint_layers} joint layers: the encoder has {layers}")
        self.transformer = transformer
        self.layers = layers
        self.joint_layers = joint_layers
        self.width: int = transformer.config.hidden_size  # type: ignore[union-attr, assignment]

    def encode_separately(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """States after the lower layers, shape ``(batch, length, width)``; neither text sees the other."""
        first = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
        places = attention_mask.cumsum(1) - 1 - token_type_ids * first
        transformer: Any = self.transformer
        states: Tensor = transformer.embeddings(
            input_ids=input_ids,
            position_ids=places.clamp(min=0),
            token_type_ids=torch.zeros_like(token_type_ids),
        )
        hidden = _to_additive_mask(
            compare_text_types(token_type_ids) & attention_mask[:, None, None, :].bool()
        )
        for layer in self._list_lower():
            states = run_layer(layer, states, hidden)
        return states

    def encode_alone(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encodes single texts in the lower layers: what ``encode_separately`` makes of either text of a
        pair."""
        transformer: Any = self.transformer
        states: Tensor = transformer.embeddings(
            input_ids=input_ids,
            position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0),
            token_type_ids=torch.zeros_like(input_ids),
        )
        hidden = _to_additive_mask(attention_mask[:, None, None, :].bool())
        for layer in self._list_lower():
            states = run_layer(layer, states, hidden)
        return states

    def freeze_lower(self) -> None:
        """Leaves what is below the joint layers as the encoder has it, so that its states can be kept."""
        for part in (self.transformer.embeddings, *self._list_lower()):
            for parameter in part.parameters():  # type: ignore[union-attr]
                parameter.requires_grad_(False)

    def has_same_lower_layers(self, other: "SeparateLayers") -> bool:
        """Tells whether the other's lower layers make the same states of every text."""
        if len(self._list_lower()) != len(other._list_lower()):
            return False
        own, others = (
            [p for part in (m.transformer.embeddings, *m._list_lower()) for p in part.parameters()]  # type: ignore[union-attr]
            for m in (self, other)
        )
        return all(torch.equal(a, b) for a, b in zip(own, others, strict=True))

    def compute_lower_fingerprint(self) -> str:
        """Computes a hash, 32 hex digits: two models that have the same one make the same states of the
        same tokens."""
        config = {name: getattr(self.transformer.config, name, None) for name in CONFIG}
        digest = hashlib.blake2b(json.dumps(config).encode(), digest_size=16)
        for number, part in enumerate((self.transformer.embeddings, *self._list_lower())):
            for name, tensor in part.state_dict().items():  # type: ignore[union-attr]
                digest.update(f"{number}.{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _list_lower(self) -> list[nn.Module]:
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[: len(layers) - self.joint_layers]

    def list_upper(self) -> list[nn.Module]:
        """Lists the joint layers."""
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[len(layers) - self.joint_layers :]


def run_layer(layer: nn.Module, states: Tensor, hidden: Tensor) -> Tensor:
    output = layer(states, hidden)
    made: Tensor = output[0] if isinstance(output, tuple) else output
    return made


def compare_text_types(token_type_ids: Tensor) -> Tensor:
    """Compares the texts of two tokens: whether they are one, shape ``(batch, 1, length, length)``."""
    return token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]


def _to_additive_mask(visible: Tensor) -> Tensor:
    return (~visible).float() * MASKED


def average_states(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
