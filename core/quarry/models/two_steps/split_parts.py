"""The facts about an exported split cross-encoder that is run in two steps."""

from dataclasses import dataclass

TOGETHER_FILE = "together.onnx"
"""States, attention_mask and token_type_ids of pairs to their scores."""


@dataclass(frozen=True, slots=True)
class SplitParts:
    """The sizes of a re-ranker that is served in two steps.

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
