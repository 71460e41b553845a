"""Exports the two steps of a re-ranker that reads texts apart, beside the whole of it.

They are kept if, put together, they score as the whole graph does, and nearly so with states rounded as they
are kept.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.caches.state_forms import EXACT, FORMS, StateForm
from quarry.models.export.late_export import write_late_steps
from quarry.models.export.onnx_graph import PARITY, PARITY_SHAPES, draw_tokens, measure_difference
from quarry.models.export.split_export import write_split_steps
from quarry.models.run_settings import ModelRunSettings
from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.runtime.packing import Arrays
from quarry.models.runtime.runner import Precision
from quarry.models.tokenization import Tokens
from quarry.models.torch_modules.late_module import LateModule
from quarry.models.torch_modules.separate_layers import SeparateLayers
from quarry.models.torch_modules.split_module import SplitModule
from quarry.models.two_steps.late_steps import LateParts
from quarry.models.two_steps.separate_steps import FILES, LATE_PARTS, SPLIT_PARTS, open_steps
from quarry.models.two_steps.split_parts import SplitParts
from quarry.models.two_steps.two_step_cross_encoder import Steps

HALF_PARITY = 1e-3
"""As ``PARITY``, with states rounded to float16: 2e-4 was the most of a few random tokens, 5e-5 of 128."""

WRITERS: dict[type[SeparateLayers], tuple[str, Callable[..., SplitParts | LateParts]]] = {
    SplitModule: (SPLIT_PARTS, write_split_steps),
    LateModule: (LATE_PARTS, write_late_steps),
}
_log = logging.getLogger(__name__)


def export_steps(
    module: SeparateLayers, settings: ModelRunSettings, vocabulary: int, target: Path, whole: Path
) -> dict[str, Any]:
    """Writes what the steps need to ``target``; returns what ``open_steps`` has to know of it.

    Nothing, logged, if they cannot be made: the model is then run as a whole.

    Args:
        vocabulary: how many token ids there are.
        whole: the graph that they are compared with, which can do their work.
    """
    kind, write = next(found for of, found in WRITERS.items() if isinstance(module, of))
    try:
        facts = {kind: asdict(write(module, settings, vocabulary, target))}
        _check_steps(partial(open_steps, target, facts, settings.pad_id), settings, vocabulary, whole)
    except ModelError as error:
        _log.warning("a re-ranker will be run as a whole, without kept states: %s", error)
        for name in FILES:
            (target / name).unlink(missing_ok=True)
        return {kind: None}
    return facts


def _check_steps(
    steps: Callable[[Precision, StateForm], Steps | None],
    settings: ModelRunSettings,
    vocabulary: int,
    whole: Path,
) -> None:
    """Raises ModelError if both steps together differ from the whole graph.

    Args:
        steps: opens them in a precision, with states of passages in a form.
    """
    runner = OnnxRunner(whole)
    for form, bound in ((EXACT, PARITY), (FORMS["fp32"], HALF_PARITY)):
        opened = steps("fp32", form)
        assert opened is not None  # noqa: S101  its facts were just made
        for seed, (rows, length) in enumerate(PARITY_SHAPES):
            shape = (rows, min(length, settings.max_tokens))
            inputs = draw_tokens(settings, shape, seed, vocabulary)
            pairs = [row for row in range(rows) if inputs["token_type_ids"][row].any()]
            # Query and passage each need a token.
            pairs = [row for row in pairs if inputs["token_type_ids"][row, 0] == 0]
            if not pairs:
                continue
            some = {name: values[pairs] for name, values in inputs.items()}
            found = measure_difference(runner.run(some), _score(opened, some))
            if not found <= bound:  # this holds for NaN, too
                raise ModelError(f"the parts together differ from the whole by {found:.2g}")


def _score(steps: Steps, inputs: Arrays) -> NDArray[np.float32]:
    """Scores each pair, with each text read by itself."""
    ids, mask, types = inputs.values()
    texts = [
        [Tokens(ids[row, chosen], np.zeros(chosen.sum(), np.int64), False)
         for chosen in ((mask[row] * (1 - types[row])).astype(bool), (mask[row] * types[row]).astype(bool))]
        for row in range(len(ids))
    ]  # fmt: skip
    queries = steps.encode_queries([query for query, _ in texts])
    passages = [
        steps.form.keep(states) for states in steps.encode_passages([passage for _, passage in texts])
    ]
    return steps.score(queries, passages)
