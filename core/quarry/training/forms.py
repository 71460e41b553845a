"""The form of a model that a training starts from, read from its folder without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quarry.errors import ModelError
from quarry.models.run_settings import (
    LATE_KEY,
    SPLIT_KEY,
    ModelKind,
    make_separate_key,
    read_json,
    read_settings,
)

FormName = Literal["split", "late", "cross"]
"""Of a re-ranker: a split cross-encoder reads query and passage apart in its lower layers, a late-interaction
one in all layers, and an ordinary one reads them together in all."""
_CROSS_ENCODER = "ForSequenceClassification"


@dataclass(frozen=True, slots=True)
class ModelForm:
    """The form of a model in a folder.

    Attributes:
        kind: a re-ranker of any form is a cross-encoder.
        max_tokens: longest input, special tokens included.
        layers: of the transformer.
        joint_layers: of a split cross-encoder; 0 for any other.
        late: whether it is a late-interaction re-ranker.
    """

    kind: ModelKind
    max_tokens: int
    layers: int
    joint_layers: int = 0
    late: bool = False

    @property
    def name(self) -> FormName:
        """The form of a re-ranker, as ``--form`` names it."""
        return "late" if self.late else "split" if self.joint_layers else "cross"


def read_model_form(folder: Path) -> ModelForm:
    """Reads the form of the model in ``folder``. Raises ModelError if it is none that Quarry runs."""
    kind = _read_kind(folder)
    settings = read_settings(folder, kind)
    config = read_json(folder / settings.weights / "config.json")
    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int) or layers < 1:
        raise ModelError(f"the config.json of {folder} does not say how many layers the model has")
    joint_layers = config.get(SPLIT_KEY, {}).get("joint_layers", 0)
    return ModelForm(kind, settings.max_tokens, layers, int(joint_layers), LATE_KEY in config)


def _read_kind(folder: Path) -> ModelKind:
    config = read_json(folder / "config.json")
    named = any(str(name).endswith(_CROSS_ENCODER) for name in config.get("architectures") or ())
    return ModelKind.CROSS_ENCODER if named or make_separate_key(folder) else ModelKind.ENCODER
