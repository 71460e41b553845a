"""States of single texts, by the graph of the layers that read each text by itself."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from quarry.models.runtime.packing import group_alike, make_arrays, pack
from quarry.models.runtime.runner import Precision, Runner
from quarry.models.tokenization import Tokens

APART_FILE = "apart.onnx"
"""input_ids and attention_mask of single texts to their states, shape ``(batch, length, width)``."""


class TextReader:
    """Runs the graph that reads each text by itself.

    Args:
        pad_id: token that fills up shorter texts of a batch.
        precision: to which states are rounded afterwards; in int8 texts of one length are run together, so
            that they are rounded alike (``group_alike``).
    """

    def __init__(self, graph: Runner, pad_id: int, precision: Precision) -> None:
        self._graph, self._pad_id, self._precision = graph, pad_id, precision

    def read_states(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """Reads the states of each text, shape ``(tokens, width)``; runs them in batches of like length."""
        states: dict[int, NDArray[np.float32]] = {}
        for places in self._pack(texts):
            batch = [texts[place] for place in places]
            made = self._graph.run(make_arrays(batch, self._pad_id, token_types=False))
            for place, text, row in zip(places, batch, made, strict=True):
                states[place] = row[: len(text)]
        return [states[place] for place in range(len(texts))]

    def _pack(self, texts: Sequence[Tokens]) -> Iterator[list[int]]:
        for places in pack([len(text) for text in texts], self._graph.batch_tokens):
            for some in group_alike([texts[place] for place in places], self._precision):
                yield [places[place] for place in some]
