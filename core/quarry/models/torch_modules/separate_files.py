"""The folder of a re-ranker that is made of a BERT which reads texts apart: weights, config and tokenizer."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, BertModel

from quarry.errors import ModelError
from quarry.models.run_settings import read_json
from quarry.models.torch_modules.progress_bars import hide_progress_bars

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
LABELS = {"id2label": {"0": "score"}, "label2id": {"score": 0}}


def open_bert(encoder: Path) -> tuple[BertModel, dict[str, Any]]:
    """Opens the encoder in ``encoder``, and its config. Raises ModelError if it is no BERT."""
    config = read_json(encoder / "config.json")
    if config.get("model_type") != "bert":
        kind = config.get("model_type")
        raise ModelError(f"a model that reads texts apart is made of a BERT, not of {kind}")
    with hide_progress_bars():
        transformer = BertModel.from_pretrained(encoder, add_pooling_layer=False, local_files_only=True)
    return transformer, config


def save_separate(
    transformer: nn.Module,
    config: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Tensor],
    target: Path,
) -> None:
    """Writes weights and config; the tokenizer is there already.

    Args:
        own: what the config has of this kind of re-ranker, under its key.
        weights: that are not the transformer's.
    """
    kept = {key: value for key, value in config.items() if key not in ("architectures", *LABELS)}
    (target / "config.json").write_text(json.dumps({**kept, **LABELS, **own}, indent=1))
    both = {**transformer.state_dict(), **weights}
    tensors = {name: tensor.detach().contiguous() for name, tensor in both.items()}
    save_file(tensors, target / WEIGHTS_FILE, metadata={"format": "pt"})


def load_separate(
    folder: Path, attention: str, key: str, prefix: str
) -> tuple[BertModel, dict[str, Any], dict[str, Tensor]]:
    """Loads the transformer in ``folder``, what its config has of this kind of re-ranker, and the other
    weights.

    Args:
        key: of that in the config.
        prefix: of the names of those weights.

    Raises:
        ModelError: weights of the transformer are missing, or the config has no object under the key.
    """
    settings = read_json(folder / "config.json").get(key)
    if not isinstance(settings, dict):
        raise ModelError(f"the {key} in the config.json of {folder} is no object")
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config._attn_implementation = attention
    transformer = BertModel(config, add_pooling_layer=False)
    weights = load_file(folder / WEIGHTS_FILE)
    others = {name: weights.pop(name) for name in list(weights) if name.startswith(prefix)}
    refuse_missing(folder, transformer.load_state_dict(weights, strict=False).missing_keys)
    return transformer, settings, others


def refuse_missing(folder: Path, names: list[str]) -> None:
    """Raises ModelError if any weight is missing."""
    if names:
        raise ModelError(
            f"{folder} lacks weights, and would answer at random: {', '.join(sorted(names)[:5])}"
        )


def write_tokenizer(encoder: Path, target: Path) -> None:
    """Writes the encoder's tokenizer, framing two texts each as it frames one."""
    source = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))
    frame = source["post_processor"]
    if frame is None or frame["type"] != "TemplateProcessing":
        raise ModelError(f"{encoder} frames texts in a way that cannot be doubled")
    second = json.loads(json.dumps(frame["single"]).replace('"id": "A"', '"id": "B"'))
    for piece in second:
        next(iter(piece.values()))["type_id"] = 1
    frame["pair"] = [*frame["single"], *second]
    (target / "tokenizer.json").write_text(json.dumps(source, ensure_ascii=False), encoding="utf-8")
    _copy(encoder, target, TOKENIZER_FILES[1:])


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies all that a model's folder has of its tokenizer."""
    _copy(source, target, TOKENIZER_FILES)


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
