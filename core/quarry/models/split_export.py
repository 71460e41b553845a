"""Exports a split cross-encoder in two graphs beside the whole one: texts to states, states to scores.

They are kept if, put together, they score as the whole graph does, and nearly so with states rounded as they
are kept.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from quarry.errors import ModelError
from quarry.models.onnx_graph import PARITY, PARITY_SHAPES, Inputs, difference, seeded_tokens, write_graph
from quarry.models.onnx_runner import OnnxRunner
from quarry.models.packing import Arrays
from quarry.models.settings import ModelSettings
from quarry.models.split_joint import JointLayers
from quarry.models.split_module import SplitModule
from quarry.models.split_parts import APART_FILE, TOGETHER_FILE, SplitParts

HALF_PARITY = 1e-3
"""As ``PARITY``, with states rounded to float16: 2e-4 was the most of a few random tokens, 5e-5 of 128."""

_log = logging.getLogger(__name__)


def export_parts(
    module: SplitModule, settings: ModelSettings, vocabulary: int, target: Path, whole: Path
) -> SplitParts | None:
    """Writes both graphs to ``target``; None, logged, if they cannot be made.

    Args:
        vocabulary: how many token ids there are.
        whole: the graph that they are compared with, which can do their work.
    """
    try:
        _write_parts(module, settings, vocabulary, target)
        _check_composition(settings, vocabulary, target, whole)
    except ModelError as error:
        _log.warning("a split cross-encoder will be run as a whole, without kept states: %s", error)
        for name in (APART_FILE, TOGETHER_FILE):
            (target / name).unlink(missing_ok=True)
        return None
    return SplitParts(module.lower_fingerprint(), module.width, module.layers, module.joint_layers)


class _Alone(nn.Module):
    def __init__(self, split: SplitModule) -> None:
        super().__init__()
        self.split = split
        self.eval()  # an exporter leaves it as it finds it

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.split.alone(*inputs)


def _write_parts(module: SplitModule, settings: ModelSettings, vocabulary: int, target: Path) -> None:
    def texts(shape: tuple[int, int], seed: int) -> Inputs:
        inputs = seeded_tokens(settings, shape, seed, vocabulary)
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    def states(shape: tuple[int, int], seed: int) -> Inputs:
        made = np.random.default_rng(seed).standard_normal((*shape, module.width), np.float32)
        return {"states": made, **_masks(seeded_tokens(settings, shape, seed, vocabulary))}

    write_graph(_Alone(module), texts, settings.max_tokens, target / APART_FILE, per_token=True)
    write_graph(JointLayers(module), states, settings.max_tokens, target / TOGETHER_FILE)


def _check_composition(settings: ModelSettings, vocabulary: int, target: Path, whole: Path) -> None:
    """Raises ModelError if both graphs together differ from the whole one."""
    runner, apart, together = (
        OnnxRunner(file) for file in (whole, target / APART_FILE, target / TOGETHER_FILE)
    )
    for seed, (rows, length) in enumerate(PARITY_SHAPES):
        inputs = seeded_tokens(settings, (rows, min(length, settings.max_tokens)), seed, vocabulary)
        expected, exact = runner.run(inputs), _states(apart, inputs)
        rounded = exact.astype(np.float16).astype(np.float32)
        for states, bound in ((exact, PARITY), (rounded, HALF_PARITY)):
            found = difference(expected, together.run({"states": states, **_masks(inputs)}))
            if not found <= bound:  # also when it is not a number
                raise ModelError(f"the parts together differ from the whole by {found:.2g}")


def _states(apart: OnnxRunner, inputs: Arrays) -> NDArray[np.float32]:
    """Of each pair, the states of both texts, each text run by itself; shape ``(rows, length, width)``."""
    ids, mask, types = inputs.values()
    passages = mask * types
    made = [
        [apart.run({"input_ids": ids[row : row + 1, text], "attention_mask": mask[row : row + 1, text]})[0]
         for text in (np.flatnonzero(mask[row] - passages[row]), np.flatnonzero(passages[row])) if len(text)]
        for row in range(len(ids))
    ]  # fmt: skip
    states = np.zeros((*ids.shape, made[0][0].shape[1]), np.float32)
    for row, texts in enumerate(made):
        joined = np.concatenate(texts)
        states[row, : len(joined)] = joined
    return states


def _masks(inputs: Arrays) -> Arrays:
    return {name: inputs[name] for name in ("attention_mask", "token_type_ids")}
