"""Exports what a split cross-encoder is run by in two steps: a graph from texts to states, one to scores."""

from pathlib import Path

import numpy as np

from quarry.models.export.onnx_graph import Inputs, draw_tokens, write_graph
from quarry.models.export.separate_graph import write_separate_graph
from quarry.models.export.split_joint import JointLayers
from quarry.models.run_settings import ModelRunSettings
from quarry.models.torch_modules.split_module import SplitModule
from quarry.models.two_steps.split_parts import TOGETHER_FILE, SplitParts


def write_split_steps(
    module: SplitModule, settings: ModelRunSettings, vocabulary: int, target: Path
) -> SplitParts:
    """Writes both graphs to ``target``. Raises ModelError if they cannot be made."""

    def make_states(shape: tuple[int, int], seed: int) -> Inputs:
        made = np.random.default_rng(seed).standard_normal((*shape, module.width), np.float32)
        masks = draw_tokens(settings, shape, seed, vocabulary)
        return {"states": made, **{name: masks[name] for name in ("attention_mask", "token_type_ids")}}

    write_separate_graph(module, settings, vocabulary, target)
    write_graph(JointLayers(module), make_states, settings.max_tokens, target / TOGETHER_FILE)
    return SplitParts(module.compute_lower_fingerprint(), module.width, module.layers, module.joint_layers)
