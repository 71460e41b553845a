"""The two steps of a split cross-encoder: lower layers read each text, joint layers read both."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quarry.models.caches.state_forms import StateForm, States
from quarry.models.runtime.runner import Runner
from quarry.models.tokenization import Tokens
from quarry.models.two_steps.split_parts import SplitParts
from quarry.models.two_steps.text_reader import TextReader

OVERHEAD_LAYERS = 0.5
"""Added to the joint layers when the cost of a pair is promised: with one of six, a pair whose states are
kept took 0.19 of the whole, not 0.17."""


class SplitSteps:
    """``Steps`` of two graphs; what a query and a passage are, is their states after the lower layers."""

    def __init__(self, reader: TextReader, together: Runner, parts: SplitParts, form: StateForm) -> None:
        self._reader, self._together, self._parts, self.form = reader, together, parts, form
        self.fingerprint = parts.lower
        self.batch_tokens, self.parallel = together.batch_tokens, together.parallel
        self.precision = together.precision
        self.kept_share = self._compute_share(parts.joint_layers)
        self.promised_share = self._compute_share(parts.joint_layers + OVERHEAD_LAYERS)

    def encode_queries(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        return self._reader.read_states(texts)

    def encode_passages(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        return self._reader.read_states(texts)

    def score(
        self, queries: Sequence[NDArray[np.float32]], passages: Sequence[States]
    ) -> NDArray[np.float32]:
        lengths = [len(query) + len(passage) for query, passage in zip(queries, passages, strict=True)]
        shape = (len(queries), max(lengths))
        states = np.zeros((*shape, self._parts.width), np.float32)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        read = {id(passage): self.form.read(passage) for passage in passages}
        for row, (query, passage, end) in enumerate(zip(queries, passages, lengths, strict=True)):
            begin = len(query)
            states[row, :begin], states[row, begin:end] = query, read[id(passage)]
            mask[row, :end], types[row, begin:end] = 1, 1
        return self._together.run({"states": states, "attention_mask": mask, "token_type_ids": types})

    def _compute_share(self, layers: float) -> float:
        return min(1.0, layers / self._parts.layers)
