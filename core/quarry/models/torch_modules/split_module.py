"""The split cross-encoder in torch: lower layers read query and passage apart, the upper ones both together.

It starts at the dense order instead of at chance: its score is the cosine of two means, as the encoder's is,
and what a token sees of the other text is damped by a learned amount per head that starts high. After PreTTR
(MacAvaney et al., SIGIR 2020) and DeFormer (Cao et al., ACL 2020), which start at full sight.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quarry.errors import ModelError
from quarry.models.run_settings import SPLIT_KEY
from quarry.models.torch_modules.separate_files import (
    load_separate,
    open_bert,
    refuse_missing,
    save_separate,
    write_tokenizer,
)
from quarry.models.torch_modules.separate_layers import (
    SeparateLayers,
    _to_additive_mask,
    average_states,
    compare_text_types,
    run_layer,
)

START_SCALE = 5.0
"""Factor of the cosine before training. A quarter of that of the softmax that encoders were trained with:
beside the fused score, which has the cosine already, more would count it twice."""
START_DAMPING = 4.0
"""Before training a token of the other text has ``exp(-4)`` of the attention that it would have: the order is
the encoder's own, and gradients pass."""
DAMPING = "damping"
"""Its name among the weights in the file."""


class SplitModule(SeparateLayers):
    """Token ids of pairs to scores, shape ``(batch,)``.

    Inputs are ids, mask and types of ``[CLS] query [SEP] [CLS] passage [SEP]``, with types 0 and 1 for the
    two. Types only say which text a token belongs to: each text has its own positions and looks like the
    encoder's own input.

    Attributes:
        log_scale: logarithm of the factor of the cosine between the mean states of query and passage.
        damping: shape ``(joint layers, heads)``: taken off the attention logits between the two texts.
    """

    def __init__(self, transformer: nn.Module, joint_layers: int, scale: float = START_SCALE) -> None:
        super().__init__(transformer, joint_layers)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())
        heads: int = transformer.config.num_attention_heads  # type: ignore[union-attr, assignment]
        self.damping = nn.Parameter(torch.full((joint_layers, heads), START_DAMPING))

    def forward(self, *inputs: Tensor) -> Tensor:
        input_ids, attention_mask, token_type_ids = inputs
        states = self.encode_separately(input_ids, attention_mask, token_type_ids)
        return self.score_states(states, attention_mask, token_type_ids)

    def score_states(self, states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Scores pairs by the states after the lower layers."""
        hidden = _to_additive_mask(attention_mask[:, None, None, :].bool())
        across = (~compare_text_types(token_type_ids)).to(states.dtype)
        for layer, damping in zip(self.list_upper(), self.damping, strict=True):
            states = run_layer(layer, states, hidden - damping[None, :, None, None] * across)
        return score_means(states, attention_mask, token_type_ids, self.log_scale)


def score_means(states: Tensor, attention_mask: Tensor, token_type_ids: Tensor, log_scale: Tensor) -> Tensor:
    """Scores pairs by the scaled cosine between the mean states of query and passage."""
    states = states.float()
    query = average_states(states, attention_mask * (1 - token_type_ids))
    passage = average_states(states, attention_mask * token_type_ids)
    scores: Tensor = log_scale.exp() * nn.functional.cosine_similarity(query, passage, dim=-1)
    return scores


def make_split_model(encoder: Path, joint_layers: int, target: Path) -> Path:
    """Writes an untrained split cross-encoder made of the encoder in ``encoder``; returns ``target``.

    Raises:
        ModelError: the encoder is no BERT, or has fewer layers.
    """
    transformer, config = open_bert(encoder)
    target.mkdir(parents=True, exist_ok=True)
    write_tokenizer(encoder, target)
    save_split_model(SplitModule(transformer, joint_layers), config, target)
    return target


def save_split_model(module: SplitModule, config: dict[str, Any], target: Path) -> None:
    """Writes weights and config; the tokenizer is there already."""
    split = {"joint_layers": module.joint_layers, "scale": float(module.log_scale.detach().exp())}
    save_separate(module.transformer, config, {SPLIT_KEY: split}, {DAMPING: module.damping}, target)


def load_split_module(folder: Path, attention: str) -> SplitModule:
    """Loads the split cross-encoder in ``folder``. Raises ModelError if weights are missing, or
    do not fit the config."""
    transformer, split, own = load_separate(folder, attention, SPLIT_KEY, DAMPING)
    refuse_missing(folder, [DAMPING] if DAMPING not in own else [])
    joint_layers, scale = split.get("joint_layers"), split.get("scale")
    if not isinstance(joint_layers, int) or not isinstance(scale, int | float) or not 0 <= scale < math.inf:
        raise ModelError(f"{folder} has no joint layers or no scale that a split cross-encoder can have")
    module = SplitModule(transformer, joint_layers, scale)
    if own[DAMPING].shape != module.damping.shape:
        raise ModelError(f"{folder} has a damping that does not fit its joint layers")
    with torch.no_grad():
        module.damping.copy_(own[DAMPING])
    return module.eval()
