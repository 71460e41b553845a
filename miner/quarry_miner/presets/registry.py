"""All presets by name, and how one is made with other constants than its own."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rapidfuzz import process

from quarry.errors import InvalidArgumentError, UnknownValueError, WrongTypeError
from quarry_miner.presets.ambiguous import SimAns
from quarry_miner.presets.base import Preset
from quarry_miner.presets.controls import Bm25, InBatch, Random
from quarry_miner.presets.enterprise import Enterprise2025
from quarry_miner.presets.intra_sample import IntraSample
from quarry_miner.presets.judged import Denoised, Refresh, Relabelled
from quarry_miner.presets.neighborhood import Neighborhood
from quarry_miner.presets.positive_aware import (
    MarginPos,
    PercPos,
    SampledTopK,
    TopK,
    TopKAbs,
    TopKShifted,
    TopOneSampled,
)
from quarry_miner.presets.quarry import Quarry
from quarry_miner.presets.semi_hard import SemiHard

_CLASSES: tuple[type[Any], ...] = (
    Random, Bm25, InBatch, Enterprise2025, TopK, TopKShifted, TopKAbs, MarginPos, PercPos, SampledTopK,
    TopOneSampled, IntraSample, SemiHard, Neighborhood, SimAns, Denoised, Relabelled, Refresh, Quarry,
)  # fmt: skip

PRESETS: Mapping[str, type[Any]] = {preset.name: preset for preset in _CLASSES}
"""Classes whose instances are a ``Preset``."""
ALIASES: Mapping[str, str] = {"ensemble-2024": "enterprise-2025"}
"""arXiv 2411.02404 began the line of work that arXiv 2505.18366 describes in full."""


def make_preset(name: str, parameters: Mapping[str, float] = {}) -> Preset:
    """Makes the preset called ``name``, with ``parameters`` in place of its constants.

    Raises:
        InvalidArgumentError: no such preset or constant (names the nearest), or a value is out of range.
    """
    known = {**PRESETS, **{alias: PRESETS[target] for alias, target in ALIASES.items()}}
    if name not in known:
        raise UnknownValueError("preset", _refuse_unknown(name, list(known)))
    preset = known[name]
    kinds = {field.name: type(field.default) for field in fields(preset)}
    values: dict[str, float] = {}
    for key, value in parameters.items():
        if key not in kinds:
            raise UnknownValueError(
                f"parameters[{key}]", f"{preset.name} has {_refuse_unknown(key, list(kinds))}"
            )
        if not math.isfinite(value) or (kinds[key] is int and value != int(value)):
            raise WrongTypeError(f"parameters[{key}]", f"{value:g} is not a {kinds[key].__name__}")
        values[key] = int(value) if kinds[key] is int else float(value)
    try:
        made: Preset = preset(**values)
    except InvalidArgumentError as error:
        raise error.move_to(f"parameters[{error.field}]") from error
    return made


def _refuse_unknown(name: str, known: list[str]) -> str:
    nearest = process.extractOne(name, known)
    hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
    return f"no {name[:80]!r}{hint}"
