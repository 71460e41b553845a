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


class ApartLayers(nn.Module):
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

    def apart(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """States after the lower layers, shape ``(batch, length, width)``; neither text sees the other."""
        first = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
        places = attention_mask.cumsum(1) - 1 - token_type_ids * first
        transformer: Any = self.transformer
        states: Tensor = transformer.embeddings(
            input_ids=input_ids,
            position_ids=places.clamp(min=0),
            token_type_ids=torch.zeros_like(token_type_ids),
        )
        hidden = additive(same_text(token_type_ids) & attention_mask[:, None, None, :].bool())
        for layer in self._lower():
            states = run_layer(layer, states, hidden)
        return states

    def alone(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States of single texts after the lower layers: what ``apart`` makes of either text of a pair."""
        transformer: Any = self.transformer
        states: Tensor = transformer.embeddings(
            input_ids=input_ids,
            position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0),
            token_type_ids=torch.zeros_like(input_ids),
        )
        hidden = additive(attention_mask[:, None, None, :].bool())
        for layer in self._lower():
            states = run_layer(layer, states, hidden)
        return states

    def freeze_lower(self) -> None:
        """Leaves what is below the joint layers as the encoder has it, so that its states can be kept."""
        for part in (self.transformer.embeddings, *self._lower()):
            for parameter in part.parameters():  # type: ignore[union-attr]
                parameter.requires_grad_(False)

    def same_below(self, other: "ApartLayers") -> bool:
        """Whether the other's lower layers make the same states of every text."""
        if len(self._lower()) != len(other._lower()):
            return False
        own, others = (
            [p for part in (m.transformer.embeddings, *m._lower()) for p in part.parameters()]  # type: ignore[union-attr]
            for m in (self, other)
        )
        return all(torch.equal(a, b) for a, b in zip(own, others, strict=True))

    def lower_fingerprint(self) -> str:
        """Hex, 32 digits: two models that have the same one make the same states of the same tokens."""
        config = {name: getattr(self.transformer.config, name, None) for name in CONFIG}
        digest = hashlib.blake2b(json.dumps(config).encode(), digest_size=16)
        for number, part in enumerate((self.transformer.embeddings, *self._lower())):
            for name, tensor in part.state_dict().items():  # type: ignore[union-attr]
                digest.update(f"{number}.{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _lower(self) -> list[nn.Module]:
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[: len(layers) - self.joint_layers]

    def upper(self) -> list[nn.Module]:
        """The joint layers."""
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[len(layers) - self.joint_layers :]


def run_layer(layer: nn.Module, states: Tensor, hidden: Tensor) -> Tensor:
    output = layer(states, hidden)
    made: Tensor = output[0] if isinstance(output, tuple) else output
    return made


def same_text(token_type_ids: Tensor) -> Tensor:
    """Whether two tokens belong to one text, shape ``(batch, 1, length, length)``."""
    return token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]


def additive(visible: Tensor) -> Tensor:
    return (~visible).float() * MASKED


def mean_states(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
