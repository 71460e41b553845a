"""Opens the two steps of an exported re-ranker that reads texts apart, whatever kind it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quarry.models.caches.state_forms import FORMS, StateForm
from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.runtime.open_graph import open_graph
from quarry.models.runtime.runner import Precision
from quarry.models.two_steps.late_head import HEAD_FILE, load_late_weights
from quarry.models.two_steps.late_steps import LateParts, LateSteps
from quarry.models.two_steps.split_parts import TOGETHER_FILE, SplitParts
from quarry.models.two_steps.split_steps import SplitSteps
from quarry.models.two_steps.text_reader import APART_FILE, TextReader
from quarry.models.two_steps.two_step_cross_encoder import Steps

FILES = (APART_FILE, TOGETHER_FILE, HEAD_FILE)
"""That a model may have for its steps."""
SPLIT_PARTS, LATE_PARTS = "parts", "late"
"""In the settings of an export: what is known of the steps, by their kind; None if they failed."""


def open_steps(
    target: Path, facts: Mapping[str, Any], pad_id: int, precision: Precision, form: StateForm | None = None
) -> Steps | None:
    """Opens the steps of the model that is exported in ``target``; None for one that is run as a whole.

    Args:
        facts: the settings of the export.
        precision: of joint layers. Of late interaction nothing is computed in int8, and vectors are always
            kept so: it costs no quality (docs/explanation/benchmarks.md).
        form: of passages' states; None: that which serves.

    Raises:
        ModelError: a file cannot be run.
    """
    kind = next((kind for kind in (SPLIT_PARTS, LATE_PARTS) if facts.get(kind)), None)
    if kind is None:
        return None
    rounded: Precision = "int8" if kind == LATE_PARTS else precision
    reader = TextReader(OnnxRunner(target / APART_FILE), pad_id, rounded)
    form = form or FORMS[rounded]
    if kind == LATE_PARTS:
        return LateSteps(reader, load_late_weights(target), LateParts(**facts[kind]), form)
    together = open_graph(target / TOGETHER_FILE, precision)
    return SplitSteps(reader, together, SplitParts(**facts[kind]), form)
