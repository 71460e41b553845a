"""A transformer in torch with what Quarry puts on top. Imported only to export, and to run on a GPU."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification

from quarry.errors import ModelError
from quarry.models.run_settings import (
    LATE_KEY,
    SPLIT_KEY,
    ModelKind,
    ModelRunSettings,
    Pooling,
    make_separate_key,
)
from quarry.models.torch_modules.late_module import load_late_module
from quarry.models.torch_modules.progress_bars import hide_progress_bars
from quarry.models.torch_modules.split_module import load_split_module
from quarry.quoting import quote_error

APART = {SPLIT_KEY: load_split_module, LATE_KEY: load_late_module}
"""What loads a re-ranker that reads texts apart, by its key in config.json."""


class EncoderModule(nn.Module):
    """Token ids to unit vectors, shape ``(batch, dimension)``; pooled over the tokens that are no padding."""

    def __init__(self, transformer: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, *inputs: Tensor) -> Tensor:
        states = self.transformer(**_name_inputs(inputs)).last_hidden_state.float()
        return nn.functional.normalize(self._pool(states, inputs[1]), dim=1)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.pooling is Pooling.CLS:
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


class CrossEncoderModule(nn.Module):
    """Token ids of pairs to logits, shape ``(batch,)``."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.transformer(**_name_inputs(inputs)).logits
        return logits.float().squeeze(-1)


def load_module(folder: Path, settings: ModelRunSettings, attention: str = "sdpa") -> nn.Module:
    """Loads the model in fp32 on the CPU, in evaluation mode.

    ``attention`` is transformers' name of the implementation; ONNX Runtime knows ``eager``'s pattern.

    Raises:
        ModelError: it cannot be loaded, or weights that it needs are missing from the file.
    """
    encoder = settings.kind is ModelKind.ENCODER
    if not encoder and (load_apart := APART.get(make_separate_key(folder) or "")):
        return load_apart(folder, attention)
    loader: Any = AutoModel if encoder else AutoModelForSequenceClassification
    with hide_progress_bars():
        try:
            transformer, report = loader.from_pretrained(
                folder / settings.weights,
                attn_implementation=attention,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(f"{folder} cannot be loaded: {quote_error(error)}", path=str(folder)) from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key or not encoder)
    if missing:
        raise ModelError(f"{folder} lacks weights, and would answer at random: {', '.join(missing[:5])}")
    module = EncoderModule(transformer, settings.pooling) if encoder else CrossEncoderModule(transformer)
    return module.eval()


def _name_inputs(inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return dict(zip(names, inputs, strict=False))  # the last is left out by models without token types
