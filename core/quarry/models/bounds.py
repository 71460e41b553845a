"""Refuses a model whose config asks for more than its weights hold, before anything is built of it.

A config of a few bytes can ask for a hundred thousand layers, or for a matrix of a terabyte, and whoever
builds the model is busy or out of memory before the first weight is read.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quarry.errors import ModelError
from quarry.quoting import quote

MAX_REPEATED = 1_024
"""Layers, heads, experts, labels and other parts of a model that there are several of."""
UNSUSPICIOUS_PARAMETERS = 2**28
"""What a config may ask for beyond the bytes of the weights: positions need none in some models."""
MAX_LEVELS = 16
_REPEATED = re.compile(r"(layers?|blocks?|depths?|experts?|stages?|heads?|groups?|labels?)$")
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd", "embedding_size")
_INNER_WIDTHS = ("intermediate_size", "d_ff", "hidden_dim", "n_inner", "encoder_ffn_dim")
_ROWS = ("vocab_size", "max_position_embeddings", "n_positions", "type_vocab_size", "entity_vocab_size")
_LAYERS = ("num_hidden_groups", "num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
"""The first one counts: where layers are shared, as in ALBERT, there are as many as groups."""
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check_config(folder: Path, config: Any) -> None:
    """Raises ModelError unless the config in ``folder`` could be that of the weights beside it."""
    if not isinstance(config, dict):
        raise ModelError("config.json is not a JSON object")
    weights = sum(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern))
    most = weights + UNSUSPICIOUS_PARAMETERS  # a parameter has at least one byte
    for part in _list_objects(config):
        for name, value in part.items():
            if _REPEATED.search(name) and _find_largest(value) > MAX_REPEATED:
                raise ModelError(f"config.json has a {quote(name)} of over {MAX_REPEATED}")
        if _count_parameters(part) > most:
            raise ModelError(f"config.json describes more parameters than {weights} bytes of weights hold")


def _list_objects(config: Mapping[str, Any], level: int = 1) -> Iterator[Mapping[str, Any]]:
    """Yields the config, and the configs in it of parts of the model."""
    if level > MAX_LEVELS:
        raise ModelError(f"config.json is over {MAX_LEVELS} levels deep")
    yield config
    for value in config.values():
        if isinstance(value, dict):
            yield from _list_objects(value, level + 1)


def _find_largest(value: Any) -> int:
    values = value if isinstance(value, list) else [value]
    return max((one for one in values if isinstance(one, int)), default=0)


def _count_parameters(config: Mapping[str, Any]) -> int:
    """Counts the fewest parameters that a transformer with this config has."""
    width, inner = _read_number(config, _WIDTHS), _read_number(config, _INNER_WIDTHS)
    rows = sum(_read_number(config, (name,)) for name in _ROWS)
    return width * rows + _read_number(config, _LAYERS) * width * (4 * width + 2 * inner)


def _read_number(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """Reads the first of these numbers that the config has, or 0. Raises ModelError for one that is no
    size."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ModelError(f"config.json has a {name} that is no size")
        return value
    return 0
