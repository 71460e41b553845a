"""One torch module to one ONNX graph, which is only kept if its outputs are torch's.

The tracing exporter with ``eager`` attention is used because ONNX Runtime then recognises attention, GELU
and layer norms and fuses them: batches run 10 to 25 % faster than what the newer exporter makes, and the
export takes a second instead of six. The newer one is tried where tracing fails.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.run_settings import ModelRunSettings
from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.runtime.packing import Arrays

if TYPE_CHECKING:
    from torch import Tensor, nn

PARITY = 1e-4
"""Largest difference from torch, relative to the largest output where that is over 1."""
PARITY_SHAPES = ((1, 1), (1, 7), (3, 16), (2, 33), (5, 64), (1, 128), (2, 512))
"""Batches and lengths at which both are compared; lengths are cut to what the model reads."""
OPSET = 17

Inputs = dict[str, NDArray[Any]]
Seeded = Callable[[tuple[int, int], int], Inputs]
"""From a batch's (rows, length) and a seed to inputs by name, each of shape ``(rows, length, ...)``."""


def write_graph(
    module: "nn.Module", seeded: Seeded, max_tokens: int, file: Path, per_token: bool = False
) -> tuple[int, ...]:
    """Exports ``module`` to ``file``, in float32 under any autocast; returns the shape of an input's output.

    Args:
        module: its ``forward`` takes ``*inputs``.
        seeded: makes the inputs that both are compared on.
        max_tokens: the longest input.
        per_token: whether there is an output of each token instead of one of each input.

    Raises:
        ModelError: no exporter can do it, or what comes out differs from torch by more than ``PARITY``.
        OSError: the file cannot be written.
    """
    import torch

    failures: list[Exception] = []
    for export in (_trace, _export_by_dynamo):
        try:
            with torch.autocast("cpu", enabled=False):
                export(module, seeded((2, 5), 1), file, per_token)
                return _check_parity(module, file, seeded, max_tokens)
        except OSError:  # such as a full disk, for which no other exporter makes up
            raise
        except Exception as error:  # noqa: BLE001  # whatever an exporter raises, the next may do better
            failures.append(error)
    causes = "; ".join(f"{type(error).__name__}: {str(error)[:300]}" for error in failures)
    raise ModelError(f"{file.name} cannot be made: {causes}") from failures[0]


def measure_difference(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Measures the largest difference, relative to the largest output where that is over 1."""
    return float(np.abs(expected - got).max() / max(1.0, float(np.abs(expected).max())))


def draw_tokens(settings: ModelRunSettings, shape: tuple[int, int], seed: int, vocabulary: int) -> Arrays:
    """Draws random tokens; every row but the first ends in padding, as in a real batch."""
    rng = np.random.default_rng(seed)
    rows, length = shape
    ids = rng.integers(0, vocabulary, (rows, length))
    mask = np.ones((rows, length), np.int64)
    types = np.zeros((rows, length), np.int64)
    for row in range(rows):
        used = length if row == 0 else int(rng.integers(1, length + 1))
        mask[row, used:], ids[row, used:] = 0, settings.pad_id
        types[row, used // 2 : used] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs | {"token_type_ids": types} if settings.token_types else inputs


def _trace(module: "nn.Module", inputs: Inputs, target: Path, per_token: bool) -> None:
    import torch

    names = list(inputs)
    axes = {name: {0: "batch", 1: "length"} for name in names}
    output = {0: "batch", 1: "length"} if per_token else {0: "batch"}
    with warnings.catch_warnings():
        # It is announced as legacy, and warns of each Python condition that it freezes. What it makes is
        # compared with torch at other shapes than it was traced with.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            _make_tensors(inputs),
            str(target),
            input_names=names,
            output_names=["output"],
            dynamic_axes=axes | {"output": output},
            opset_version=OPSET,
            dynamo=False,
        )


def _export_by_dynamo(module: "nn.Module", inputs: Inputs, target: Path, _per_token: bool) -> None:
    import torch

    names = list(inputs)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            _make_tensors(inputs),
            str(target),
            input_names=names,
            output_names=["output"],
            dynamic_shapes=(tuple(axes for _ in names),),
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def _check_parity(module: "nn.Module", file: Path, seeded: Seeded, max_tokens: int) -> tuple[int, ...]:
    """Checks that outputs equal torch's at every shape; returns the shape of one input's output."""
    runner = OnnxRunner(file)
    made: tuple[int, ...] = ()
    for seed, (rows, length) in enumerate(PARITY_SHAPES):
        shape = (rows, min(length, max_tokens))
        inputs = seeded(shape, seed)
        expected, got = _run_torch(module, inputs), runner.run(inputs)
        if expected.shape != got.shape:
            raise ModelError(f"the export has outputs of shape {got.shape}, torch {expected.shape}")
        difference = measure_difference(expected, got)
        if not difference <= PARITY:  # also when it is not a number
            raise ModelError(
                f"the export differs from torch by {difference:.2g} at {shape[0]} x {shape[1]} tokens"
            )
        made = got.shape[1:]
    return made


def _run_torch(module: "nn.Module", inputs: Inputs) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        output: NDArray[np.float32] = module(*_make_tensors(inputs)).numpy()
    return output


def _make_tensors(inputs: Inputs) -> tuple["Tensor", ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in inputs.values())
