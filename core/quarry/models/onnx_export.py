"""Exports a model from torch to ONNX, once, and only keeps a file whose outputs are torch's.

The tracing exporter with ``eager`` attention is used because ONNX Runtime then recognises attention, GELU
and layer norms and fuses them: batches run 10 to 25 % faster than what the newer exporter makes, and the
export takes a second instead of six. The newer one is tried where tracing fails.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.onnx_runner import OnnxRunner
from quarry.models.packing import Arrays
from quarry.models.settings import ModelSettings, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

PARITY = 1e-4
"""Largest difference from torch, relative to the largest output where that is over 1."""
PARITY_SHAPES = ((1, 1), (1, 7), (3, 16), (2, 33), (5, 64), (1, 128), (2, 512))
"""Batches and lengths at which both are compared; lengths are cut to what the model reads."""
OPSET = 17
MODEL_FILE, TOKENIZER_FILE, SETTINGS_FILE = "model.onnx", "tokenizer.json", "quarry.json"

Exporter = Callable[["nn.Module", tuple["Tensor", ...], list[str], Path], None]


def exported(folder: Path, settings: ModelSettings, target: Path) -> Path:
    """``target``, holding the model as ONNX, its tokenizer and settings; exports it if it is not there.

    The folder appears complete or not at all, and processes that want it at once wait for one of them.

    Raises:
        ModelError: the model cannot be loaded or exported, or differs from torch by more than ``PARITY``.
        OSError: the target cannot be written.
    """
    if is_exported(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not is_exported(target):
            temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".export-"))
            try:
                _export(folder, settings, temporary)
                temporary.replace(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def is_exported(target: Path) -> bool:
    """Whether the folder holds a finished export; it is renamed into place as a whole."""
    return (target / MODEL_FILE).exists()


def exported_dimension(target: Path) -> int:
    """Dimension of the vectors of an exported encoder; 0 for a cross-encoder."""
    return int(read_json(target / SETTINGS_FILE)["dimension"])


def _export(folder: Path, settings: ModelSettings, target: Path) -> None:
    from quarry.models.torch_model import load_module

    _write_tokenizer(folder, target / TOKENIZER_FILE)
    module = load_module(folder, settings, attention="eager")
    inputs = _seeded_inputs(settings, (2, 5), seed=1, vocabulary=_vocabulary(folder, settings))
    failures: list[Exception] = []
    for export in (_trace, _dynamo):
        try:
            export(module, _tensors(inputs), list(inputs), target / MODEL_FILE)
            dimension = _check_parity(module, target / MODEL_FILE, settings, _vocabulary(folder, settings))
            break
        except Exception as error:  # noqa: BLE001  # whatever an exporter raises, the next may do better
            failures.append(error)
    else:
        causes = "; ".join(f"{type(error).__name__}: {str(error)[:300]}" for error in failures)
        raise ModelError(f"{folder} cannot be exported to ONNX: {causes}") from failures[0]
    facts = {**settings.to_json(), "dimension": dimension}
    (target / SETTINGS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _write_tokenizer(folder: Path, target: Path) -> None:
    """Copies tokenizer.json, or makes one of what a slow tokenizer has."""
    if (folder / TOKENIZER_FILE).exists():
        shutil.copyfile(folder / TOKENIZER_FILE, target)
        return
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.save(str(target))
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise ModelError(f"{folder} has no tokenizer.json, and none can be made: {error}") from error


def _trace(module: "nn.Module", inputs: tuple["Tensor", ...], names: list[str], target: Path) -> None:
    import torch

    axes = {name: {0: "batch", 1: "length"} for name in names} | {"output": {0: "batch"}}
    with warnings.catch_warnings():
        # It is announced as legacy, and warns of each Python condition that it freezes. What it makes is
        # compared with torch at other shapes than it was traced with.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(target),
            input_names=names,
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _dynamo(module: "nn.Module", inputs: tuple["Tensor", ...], names: list[str], target: Path) -> None:
    import torch

    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(target),
            input_names=names,
            output_names=["output"],
            dynamic_shapes=(tuple(axes for _ in names),),
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def _check_parity(module: "nn.Module", file: Path, settings: ModelSettings, vocabulary: int) -> int:
    """The width of the outputs (0 for scores), once they equal torch's at every shape."""
    runner = OnnxRunner(file)
    width = 0
    for seed, (rows, length) in enumerate(PARITY_SHAPES):
        shape = (rows, min(length, settings.max_tokens))
        inputs = _seeded_inputs(settings, shape, seed, vocabulary)
        expected, got = _run_torch(module, inputs), runner.run(inputs)
        if expected.shape != got.shape:
            raise ModelError(f"the export has outputs of shape {got.shape}, torch {expected.shape}")
        difference = float(np.abs(expected - got).max() / max(1.0, float(np.abs(expected).max())))
        if not difference <= PARITY:  # also when it is not a number
            raise ModelError(
                f"the export differs from torch by {difference:.2g} at {shape[0]} x {shape[1]} tokens"
            )
        width = got.shape[1] if got.ndim == 2 else 0
    return width


def _run_torch(module: "nn.Module", inputs: Arrays) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        output: NDArray[np.float32] = module(*_tensors(inputs)).numpy()
    return output


def _tensors(inputs: Arrays) -> tuple["Tensor", ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in inputs.values())


def _seeded_inputs(settings: ModelSettings, shape: Sequence[int], seed: int, vocabulary: int) -> Arrays:
    """Random tokens; every row but the first ends in padding, as in a real batch."""
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


def _vocabulary(folder: Path, settings: ModelSettings) -> int:
    return int(read_json(folder / settings.weights / "config.json")["vocab_size"])
