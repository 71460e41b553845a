"""Exports what a late-interaction re-ranker is run by in two steps: a graph for states, and a head."""

from pathlib import Path

import numpy as np
from torch import Tensor

from quarry.models.export.separate_graph import write_separate_graph
from quarry.models.run_settings import ModelRunSettings
from quarry.models.torch_modules.late_module import LateModule
from quarry.models.two_steps.late_head import LateWeights
from quarry.models.two_steps.late_steps import LateParts


def write_late_steps(
    module: LateModule, settings: ModelRunSettings, vocabulary: int, target: Path
) -> LateParts:
    """Writes graph and head to ``target``. Raises ModelError if the graph cannot be made."""
    write_separate_graph(module, settings, vocabulary, target)
    head = module.head
    LateWeights(
        projection=_to_array(head.projection),
        offset=_to_array(head.offset),
        token_weights=_to_array(head.token_weights.exp()),
        scale=_to_array(head.log_scale.exp()),
        dense_weight=_to_array(head.dense_weight),
    ).save(target)
    return LateParts(module.compute_state_fingerprint())


def _to_array(tensor: Tensor) -> "np.ndarray":
    made: np.ndarray = tensor.detach().float().cpu().numpy()
    return made
