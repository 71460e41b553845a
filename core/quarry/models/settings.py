"""What a model's folder says about how it is run, read without torch or transformers."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from quarry.errors import ModelError

FALLBACK_MAX_TOKENS = 512
SPLIT_KEY = "quarry_split"
"""In config.json of a split cross-encoder: its joint layers and scale."""
LARGEST_MAX_TOKENS = 8_192
NO_TOKEN_TYPES = {"distilbert", "mpnet", "roberta", "xlm-roberta", "camembert", "modernbert", "deberta-v2"}
"""Model types whose inputs have no token types, or only one of them."""


class ModelKind(StrEnum):
    ENCODER = "encoder"
    CROSS_ENCODER = "cross_encoder"


class Pooling(StrEnum):
    """How an encoder makes one vector of a text's token states."""

    MEAN = "mean"
    CLS = "cls"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is run; part of its fingerprint.

    Attributes:
        kind: what it is used as.
        max_tokens: longest input, special tokens included.
        pooling: of an encoder; unused by a cross-encoder.
        pad_id: token that fills up shorter inputs of a batch.
        token_types: whether it reads which of the two texts a token belongs to.
        weights: sub-folder of weights and config, relative to the model's; mostly "".
    """

    kind: ModelKind
    max_tokens: int
    pooling: Pooling
    pad_id: int
    token_types: bool
    weights: str = ""

    def to_json(self) -> dict[str, str | int | bool]:
        return {
            "kind": self.kind.value,
            "max_tokens": self.max_tokens,
            "pooling": self.pooling.value,
            "pad_id": self.pad_id,
            "token_types": self.token_types,
            "weights": self.weights,
        }


def read_settings(folder: Path, kind: ModelKind) -> ModelSettings:
    """The settings of the model in ``folder``.

    Raises:
        ModelError: the folder is no model, asks for what is not supported, or cannot be of this kind.
    """
    modules = _modules(folder) if kind is ModelKind.ENCODER else {}
    weights = modules.get("Transformer", "")
    config = read_json(folder / weights / "config.json")
    if not config:
        raise ModelError(f"{folder} has no config.json", folder=str(folder))
    _refuse_prompts(folder, kind)
    _refuse_several_labels(folder, kind, config)
    return ModelSettings(
        kind=kind,
        max_tokens=_max_tokens(folder, weights, config),
        pooling=_pooling(folder, modules),
        pad_id=int(config.get("pad_token_id") or 0),
        token_types=_has_token_types(config),
        weights=weights,
    )


def is_split(folder: Path) -> bool:
    """Whether the cross-encoder in ``folder`` is a split one."""
    return SPLIT_KEY in read_json(folder / "config.json")


def read_json(path: Path) -> Any:
    """What the file holds; an empty dict if there is none. Raises ModelError if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", path=str(path)) from error


def _modules(folder: Path) -> dict[str, str]:
    """Sub-folder by module of a sentence-transformers model; empty for a plain transformer."""
    found = {str(m["type"]).rsplit(".", 1)[-1]: str(m["path"]) for m in read_json(folder / "modules.json")}
    unknown = sorted(set(found) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise ModelError(f"{folder} has modules that are not supported: {', '.join(unknown)}")
    return found


def _pooling(folder: Path, modules: dict[str, str]) -> Pooling:
    if "Pooling" not in modules:
        return Pooling.MEAN
    config = read_json(folder / modules["Pooling"] / "config.json")
    legacy = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes = config.get("pooling_mode") or [
        legacy.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    ]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in set(Pooling):
        raise ModelError(f"{folder} pools by {', '.join(modes) or 'nothing'}; only mean or cls are supported")
    return Pooling(modes[0])


def _max_tokens(folder: Path, weights: str, config: dict[str, Any]) -> int:
    limits = [LARGEST_MAX_TOKENS]
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        for place in {folder / name, folder / weights / name}:
            value = read_json(place).get(key)
            if isinstance(value, int | float) and value > 0:
                limits.append(int(min(value, LARGEST_MAX_TOKENS)))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        # RoBERTa's positions start after the padding id.
        offset = int(config.get("pad_token_id") or 0) + 1 if "roberta" in config.get("model_type", "") else 0
        limits.append(positions - offset)
    elif len(limits) == 1:
        limits.append(FALLBACK_MAX_TOKENS)
    return min(limits)


def _has_token_types(config: dict[str, Any]) -> bool:
    return config.get("model_type") not in NO_TOKEN_TYPES and int(config.get("type_vocab_size") or 0) > 1


def _refuse_prompts(folder: Path, kind: ModelKind) -> None:
    """A prompt left out would make every vector slightly wrong, and nobody would see it."""
    config = read_json(folder / "config_sentence_transformers.json")
    prompts = {name: text for name, text in (config.get("prompts") or {}).items() if text}
    if kind is ModelKind.ENCODER and prompts:
        raise ModelError(
            f"{folder} wants prompts in front of texts ({', '.join(prompts)}): not supported yet"
        )


def _refuse_several_labels(folder: Path, kind: ModelKind, config: dict[str, Any]) -> None:
    if kind is not ModelKind.CROSS_ENCODER:
        return
    labels = len(config.get("id2label") or {}) or int(config.get("num_labels") or 2)
    if labels != 1:
        raise ModelError(
            f"{folder} has {labels} labels: a cross-encoder has one, the score of the pair",
            labels=str(labels),
        )
