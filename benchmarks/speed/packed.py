"""Bare ONNX Runtime on perfectly packed batches: the most that a model can do on this machine."""

import quarry as quarry  # forbids telemetry before a library is imported

# isort: split
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnxruntime

from quarry.models.runtime.onnx_runner import CPU_BATCH_TOKENS, count_cores
from quarry.models.runtime.packing import make_arrays, pack
from quarry.models.tokenization import Tokens


class PackedModel:
    """An exported model, run with nothing around it: one batch a core, sorted by length.

    Args:
        data: folder under which it was exported.
        fingerprint: of the model.
    """

    def __init__(self, data: Path, fingerprint: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = data / "models" / fingerprint / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
        self._token_types = "token_type_ids" in {one.name for one in self._session.get_inputs()}

    def seconds(self, inputs: Sequence[Tokens]) -> float:
        """How long all of ``inputs`` take; packing is done before."""
        packed = pack([len(tokens) for tokens in inputs], CPU_BATCH_TOKENS)
        batches = [make_arrays([inputs[n] for n in batch], 0, self._token_types) for batch in packed]
        with ThreadPoolExecutor(count_cores()) as pool:
            began = time.perf_counter()
            list(pool.map(lambda batch: self._session.run(None, batch), batches))
            return time.perf_counter() - began
