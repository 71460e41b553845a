"""The joint layers as they are exported: the same scores as ``SplitModule.score_states`` with less to
compute.

What a token sees of the other text is damped, and padding is hidden, by two further numbers of each query and
key instead of by an array of every pair of tokens and every head, which took an eighth of the time.
"""

from typing import Any

import torch
from torch import Tensor, nn

from quarry.models.torch_modules.separate_layers import MASKED
from quarry.models.torch_modules.split_module import SplitModule, score_means


class JointLayers(nn.Module):
    """States after the lower layers, mask and types of pairs to scores, shape ``(batch,)``."""

    def __init__(self, split: SplitModule) -> None:
        super().__init__()
        self.split = split
        self.layers = nn.ModuleList(
            _JointLayer(layer, damping)
            for layer, damping in zip(split.list_upper(), split.damping, strict=True)
        )
        self.eval()  # an exporter leaves it as it finds it

    def forward(self, states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        mask, passage = (one.to(states.dtype).unsqueeze(-1) for one in (attention_mask, token_type_ids))
        for layer in self.layers:
            states = layer(states, mask, passage)
        return score_means(states, attention_mask, token_type_ids, self.split.log_scale)


class _JointLayer(nn.Module):
    def __init__(self, layer: nn.Module, damping: Tensor) -> None:
        super().__init__()
        self.layer: Any = layer
        attention = _find_attention(layer)
        self.heads: int = attention.num_attention_heads
        self.size: int = attention.attention_head_size
        maps: list[Any] = [attention.query, attention.key, attention.value]
        scales = (self.size**-0.5, 1.0, 1.0)  # the queries take the scale of the logits
        self.weight = nn.Parameter(_join([s * one.weight.T for s, one in zip(scales, maps, strict=True)]))
        self.bias = nn.Parameter(_join([s * one.bias for s, one in zip(scales, maps, strict=True)]))
        self.damping: Tensor
        self.register_buffer("damping", damping.detach().clone())

    def forward(self, states: Tensor, mask: Tensor, passage: Tensor) -> Tensor:
        """``mask`` and ``passage`` have the shape ``(batch, length, 1)``: 1 for a token, and for one of it.

        A logit between texts lacks the head's damping d. Softmax forgets what a row has in common, so with
        types s and t of query and key ``d * (1 - 2 * s) * t`` may be taken off instead: a product.
        """
        mapped = torch.matmul(states, self.weight) + self.bias
        query, key, value = map(self._split_by_head, torch.split(mapped, self.heads * self.size, dim=-1))
        damped = (2 * passage - 1).unsqueeze(1) * self.damping[None, :, None, None]
        heads = torch.ones_like(self.damping)[None, :, None, None]
        queries = torch.cat([query, damped, torch.full_like(damped, MASKED)], dim=-1)
        keys = torch.cat([key, passage.unsqueeze(1) * heads, (1 - mask).unsqueeze(1) * heads], dim=-1)
        seen = torch.matmul(torch.softmax(torch.matmul(queries, keys.transpose(2, 3)), dim=-1), value)
        context = seen.transpose(1, 2).flatten(2)
        attended = self.layer.attention.output(context, states)
        made: Tensor = self.layer.output(self.layer.intermediate(attended), attended)
        return made

    def _split_by_head(self, rows: Tensor) -> Tensor:
        by_head: Tensor = torch.unflatten(rows, -1, (self.heads, self.size))
        return by_head.transpose(1, 2)


def _find_attention(layer: Any) -> Any:
    return layer.attention.self


def _join(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.detach() for part in parts], dim=-1).contiguous()
