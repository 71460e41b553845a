"""An int8 copy of a graph: weights rounded by output channel, what they are multiplied with by token.

Each token has a scale of its own, so that it is rounded alike whatever else is in its batch; a scale of the
whole batch, as ONNX Runtime's own dynamic quantization has it, would let a score depend on its neighbours.
Sums are made in int32, exactly: weights have seven bits, for without VNNI two products are added in 16 bits.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from filelock import FileLock
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quarry.errors import DiskFullError, ModelError
from quarry.storage.disk import is_disk_full
from quarry.storage.sealed_files import MANIFEST, find_damage, mark_file, write_manifest

TOKEN_LEVELS, WEIGHT_LEVELS = 127, 64
"""Values on either side of zero. 255 * 64 * 2 is below 2**15; 255 * 127 * 2 is not."""
_ZERO = np.uint8(128)
_SMALLEST = np.float32(1e-9)
"""Scale of a token that is zero throughout."""
INT8 = "int8"
_MICROSOFT = "com.microsoft"

_log = logging.getLogger(__name__)


def quantize_graph(source: Path, target: Path) -> None:
    """Writes to ``target``, synced, the graph of ``source`` with all products by constant weights in int8.

    Raises:
        ModelError: it multiplies by no constant weights.
        OSError: the target cannot be written.
    """
    model = onnx.load(source)
    graph = model.graph
    made = _make_int8(graph)
    if not made.rows:
        raise ModelError(f"{source.name} multiplies by no constant weights")
    used = {name for node in made.nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(made.nodes)
    graph.initializer.extend([*kept, *made.constants])
    if all(one.domain != _MICROSOFT for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    with target.open("wb") as file:
        onnx.save(model, file)
        file.flush()
        os.fsync(file.fileno())


def _make_int8(graph: onnx.GraphProto) -> "_Made":
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = _Made()
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None:
            made.nodes.append(node)
        else:
            made.multiply(node, numpy_helper.to_array(weight))
    return made


def round_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds ``weights``, shape ``(inputs, outputs)``, to int8; returns them and the scale of each output."""
    scales = np.maximum(np.abs(weights).max(axis=0), _SMALLEST) / np.float32(WEIGHT_LEVELS)
    return np.rint(weights / scales).astype(np.int8), scales


@dataclass(slots=True)
class _Made:
    """The new graph's nodes and constants.

    Attributes:
        rows: by what is multiplied: names of it as int8, one row a token, and of the tokens' scales.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    rows: dict[str, tuple[str, str]] = field(default_factory=dict)

    def multiply(self, node: onnx.NodeProto, weights: NDArray[np.float32]) -> None:
        """Puts a product in int8 in the place of ``node``, which multiplies by ``weights``."""
        states, name = node.input[0], f"{node.output[0]}:int8"
        if states not in self.rows:
            self.rows[states] = self._round(states, weights.shape[0])
        rows, scales = self.rows[states]
        values, channel_scales = round_weights(weights)
        inputs = [
            rows,
            self._add_constant(f"{name}:weights", values),
            self._add_constant(f"{name}:one", np.float32(1)),
            self._add_constant(f"{name}:scales", channel_scales),
            self._add_constant(f"{name}:zero", _ZERO),
        ]
        product = self._add("MatMulIntegerToFloat", inputs, f"{name}:product", domain=_MICROSOFT)
        scaled = self._add("Mul", [product, scales], f"{name}:scaled")
        shape = self._add("Shape", [states], f"{name}:shape", start=0, end=-1)
        width = self._add_constant(f"{name}:width", np.array([weights.shape[1]], np.int64))
        whole = self._add("Concat", [shape, width], f"{name}:whole", axis=0)
        self.nodes.append(helper.make_node("Reshape", [scaled, whole], list(node.output), name=node.name))

    def _round(self, states: str, width: int) -> tuple[str, str]:
        """Rounds ``states`` to uint8, shape ``(tokens, width)``.

        Names them and the scale of each token, ``(tokens, 1)``.
        """
        name = f"{states}:int8"
        flat = self._add_constant(f"{name}:flat", np.array([-1, width], np.int64))
        rows = self._add("Reshape", [states, flat], f"{name}:rows")
        last = self._add_constant(f"{name}:last", np.array([-1], np.int64))
        high = self._add("ReduceMax", [rows], f"{name}:high", axes=[-1], keepdims=1)
        low = self._add("ReduceMin", [rows], f"{name}:low", axes=[-1], keepdims=1)
        below = self._add("Neg", [low], f"{name}:below")
        small = self._add_constant(f"{name}:small", _SMALLEST)
        most = self._add("Max", [high, below, small], f"{name}:most")
        step = self._add_constant(f"{name}:step", np.float32(1 / TOKEN_LEVELS))
        scales = self._add("Mul", [most, step], f"{name}:scales")
        flat_scales = self._add("Squeeze", [scales, last], f"{name}:flat_scales")
        count = self._add("Shape", [flat_scales], f"{name}:count")
        zero = helper.make_tensor("", TensorProto.UINT8, [1], [int(_ZERO)])
        zeros = self._add("ConstantOfShape", [count], f"{name}:zeros", value=zero)
        values = self._add("QuantizeLinear", [rows, flat_scales, zeros], f"{name}:values", axis=0)
        return values, scales

    def _add_constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def ensure_quantized(graph: Path) -> Path:
    """Makes the int8 copy beside ``graph``, unless it is there and sound.

    Raises ModelError as ``quantize_graph``, DiskFullError, or OSError.
    """
    target = graph.with_suffix(f".{INT8}{graph.suffix}")
    manifest = target.with_suffix(f".{MANIFEST}")
    if not find_damage(manifest):
        return target
    try:
        with FileLock(target.with_suffix(".lock")):
            problem = find_damage(manifest)
            if problem and target.exists():
                _log.warning("%s is made again: %s", target, problem)
            if problem:
                _make_copy(graph, target, manifest)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"the disk is full: {graph.name} cannot be rounded to int8") from error
        raise
    return target


def _make_copy(graph: Path, target: Path, manifest: Path) -> None:
    temporary = target.with_suffix(".part")
    quantize_graph(graph, temporary)
    mark = mark_file(temporary)
    manifest.unlink(missing_ok=True)  # a copy without a manifest is made again
    temporary.replace(target)
    write_manifest(manifest, {target.name: mark})
