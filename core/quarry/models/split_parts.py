"""The two graphs of a split cross-encoder, exported beside the whole one, and what is known of them."""

from dataclasses import dataclass

APART_FILE = "apart.onnx"
"""input_ids and attention_mask of single texts to their states after the lower layers."""
TOGETHER_FILE = "together.onnx"
"""States, attention_mask and token_type_ids of pairs to their scores."""


@dataclass(frozen=True, slots=True)
class SplitParts:
    """
    Attributes:
        lower: fingerprint of the lower layers: models that have the same one make the same states of a text.
        width: of a token's state.
        layers: all of them.
        joint_layers: those that read both texts.
    """

    lower: str
    width: int
    layers: int
    joint_layers: int
