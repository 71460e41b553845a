"""The run settings in a model's folder, read without torch or transformers."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from quarry.errors import ModelError
from quarry.models.bounds import check_config
from quarry.quoting import quote, quote_error

FALLBACK_MAX_TOKENS = 512
MAX_JSON_BYTES = 16 * 2**20
"""Of a file of settings; the vocabulary is in files of its own."""
SPLIT_KEY = "quarry_split"
"""In config.json of a split cross-encoder: its joint layers and scale."""
LATE_KEY = "quarry_late"
"""In config.json of a late-interaction re-ranker: the dimension of its token vectors."""
LARGEST_MAX_TOKENS = 8_192
NO_TOKEN_TYPES = {"distilbert", "mpnet", "roberta", "xlm-roberta", "camembert", "modernbert", "deberta-v2"}
"""Model types whose inputs have no token types, or only one of them."""


class ModelKind(StrEnum):
    ENCODER = "encoder"
    CROSS_ENCODER = "cross_encoder"


class Pooling(StrEnum):
    """The way an encoder makes one vector of a text's token states."""

    MEAN = "mean"
    CLS = "cls"


@dataclass(frozen=True, slots=True)
class ModelRunSettings:
    """The settings with which a model is run; part of its fingerprint.

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


def read_settings(folder: Path, kind: ModelKind) -> ModelRunSettings:
    """Reads the settings of the model in ``folder``.

    Raises:
        ModelError: the folder is no model, asks for what is not supported, or cannot be of this kind.
    """
    modules = _read_modules(folder) if kind is ModelKind.ENCODER else {}
    weights = modules.get("Transformer", "")
    config = read_json(folder / weights / "config.json")
    if not config:
        raise ModelError(f"{folder} has no config.json", folder=str(folder))
    check_config(folder / weights, config)
    _refuse_prompts(folder, kind)
    _refuse_several_labels(folder, kind, config)
    return ModelRunSettings(
        kind=kind,
        max_tokens=_read_max_tokens(folder, weights, config),
        pooling=_read_pooling(folder, modules),
        pad_id=int(config.get("pad_token_id") or 0),
        token_types=_has_token_types(config),
        weights=weights,
    )


def make_separate_key(folder: Path) -> str | None:
    """Makes the key that names how a re-ranker encodes query and passage separately, split or late; else
    None."""
    config = read_json(folder / "config.json")
    return next((key for key in (SPLIT_KEY, LATE_KEY) if key in config), None)


def read_json(path: Path) -> Any:
    """Reads what the file holds; an empty dict if there is none. Raises ModelError: no JSON, or too large."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path} has over {MAX_JSON_BYTES} bytes", path=str(path))
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else quote_error(error)
        raise ModelError(f"{path} cannot be read: {problem}", path=str(path)) from error


def _read_object(path: Path) -> dict[str, Any]:
    """Reads an object as ``read_json`` does. Raises ModelError if it is not an object."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a JSON object", path=str(path))
    return found


def _read_modules(folder: Path) -> dict[str, str]:
    """Reads the sub-folder of each module of a sentence-transformers model; empty for a plain transformer."""
    try:
        listed = read_json(folder / "modules.json")
        found = {str(m["type"]).rsplit(".", 1)[-1]: str(m["path"]) for m in listed}
    except (TypeError, KeyError) as error:
        raise ModelError(f"{folder / 'modules.json'} does not list modules") from error
    unknown = sorted(set(found) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise ModelError(f"{folder} has modules that are not supported: {', '.join(map(quote, unknown[:5]))}")
    for path in map(PurePosixPath, found.values()):
        if path.is_absolute() or ".." in path.parts:
            raise ModelError(f"{folder} has a module that lies outside of it")
    return found


def _read_pooling(folder: Path, modules: dict[str, str]) -> Pooling:
    if "Pooling" not in modules:
        return Pooling.MEAN
    config = _read_object(folder / modules["Pooling"] / "config.json")
    legacy = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes = config.get("pooling_mode") or [
        legacy.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    ]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in list(Pooling):
        named = ", ".join(map(quote, modes[:5])) or "nothing"
        raise ModelError(f"{folder} pools by {named}; only mean or cls are supported")
    return Pooling(modes[0])


def _read_max_tokens(folder: Path, weights: str, config: dict[str, Any]) -> int:
    limits = [LARGEST_MAX_TOKENS]
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        for place in {folder / name, folder / weights / name}:
            value = _read_object(place).get(key)
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
    config = _read_object(folder / "config_sentence_transformers.json")
    prompts = [name for name, text in dict(config.get("prompts") or {}).items() if text]
    if kind is ModelKind.ENCODER and prompts:
        named = ", ".join(map(quote, prompts[:5]))
        raise ModelError(f"{folder} wants prompts in front of texts ({named}): not supported yet")


def _refuse_several_labels(folder: Path, kind: ModelKind, config: dict[str, Any]) -> None:
    if kind is not ModelKind.CROSS_ENCODER:
        return
    labels = len(config.get("id2label") or {}) or int(config.get("num_labels") or 2)
    if labels != 1:
        raise ModelError(
            f"{folder} has {labels} labels: a cross-encoder has one, the score of the pair",
            labels=str(labels),
        )
