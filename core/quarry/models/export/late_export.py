"""Exports what a late-interaction re-ranker is run by in two steps: a graph for states, and a head."""

from pathlib import Path

import numpy as np
from torch import Tensor

from quarry.models.export.apart_graph import write_apart_graph
from quarry.models.settings import ModelSettings
from quarry.models.torch_modules.late_module import LateModule
from quarry.models.two_steps.late_head import LateWeights
from quarry.models.two_steps.late_steps import LateParts


def write_late_steps(module: LateModule, settings: ModelSettings, vocabulary: int, target: Path) -> LateParts:
    """Writes graph and head to ``target``. Raises ModelError if the graph cannot be made."""
    write_apart_graph(module, settings, vocabulary, target)
    head = module.head
    LateWeights(
        projection=_array(head.projection),
        offset=_array(head.offset),
        token_weights=_array(head.token_weights.exp()),
        scale=_array(head.log_scale.exp()),
        dense_weight=_array(head.dense_weight),
    ).save(target)
    return LateParts(module.state_fingerprint())


def _array(tensor: Tensor) -> "np.ndarray":
    made: np.ndarray = tensor.detach().float().cpu().numpy()
    return made
