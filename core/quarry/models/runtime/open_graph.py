"""Opens an exported graph in the precision that is asked for."""

from pathlib import Path

from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.runtime.quantize import ensure_quantized
from quarry.models.runtime.runner import Precision


def open_graph(graph: Path, precision: Precision) -> OnnxRunner:
    """Opens ``graph``, or its int8 copy, which is made if there is no sound one.

    Raises ModelError or DiskFullError.
    """
    return OnnxRunner(graph if precision == "fp32" else ensure_quantized(graph), precision)
