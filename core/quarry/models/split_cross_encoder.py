"""The split cross-encoder, served in two steps: states of each text, which are kept, and scores of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.loading import Runner
from quarry.models.packing import arrays, pack
from quarry.models.running import run_all
from quarry.models.split_parts import SplitParts
from quarry.models.split_tokens import SplitTokenizer
from quarry.models.state_cache import StateCache, States, state_key
from quarry.models.tokens import Tokens

Pair = tuple[str, str]
REMEMBERED_TEXTS = 100_000
"""Passages whose keys are known without reading them, to say what a pair would cost; about 20 MB."""
OVERHEAD_LAYERS = 0.5
"""Added to the joint layers when the cost of a pair is promised: with one of six, a pair whose states are
kept took 0.19 of the whole, not 0.17."""


@dataclass(slots=True, eq=False)
class SplitPair:
    """A pair, ready to be run; its length is in tokens.

    Attributes:
        query: its states, shape ``(tokens, width)``.
        passage: its tokens.
        key: of the passage's states.
        work: tokens of a pair of which nothing is known that cost as much: before it is run at most, after it
            was run at least, so that no speed is taken from cheap pairs that others would not reach.
        truncated: whether either text was longer than the model reads.
    """

    query: NDArray[np.float32]
    passage: Tokens
    key: bytes
    work: int
    truncated: bool

    def __len__(self) -> int:
        return len(self.query) + len(self.passage)


@dataclass(frozen=True, slots=True)
class SplitGraphs:
    """The two graphs of a split cross-encoder, ready to run, and what is known of them."""

    apart: Runner
    together: Runner
    parts: SplitParts


class SplitCrossEncoder:
    """A ``CrossEncoder`` that a batcher can also drive in steps. Callable from any thread.

    States of passages are always rounded to float16, kept or not, so that a score does not depend on what was
    kept. Those of queries never are: they are not kept, and rounding them would tell more, as they are few.

    Args:
        pad_id: token that fills up shorter texts of a batch.
        states: where those of passages are kept; versions with the same lower layers should share one.
    """

    def __init__(
        self, info: ModelInfo, tokenizer: SplitTokenizer, graphs: SplitGraphs, pad_id: int, states: StateCache
    ) -> None:
        self._info, self._tokenizer, self._graphs, self._pad_id = info, tokenizer, graphs, pad_id
        self._states = states
        self._keys: dict[int, bytes] = {}
        self.batch_tokens = graphs.together.batch_tokens
        self.parallel = graphs.together.parallel

    @property
    def info(self) -> ModelInfo:
        return self._info

    def score(self, pairs: Sequence[Pair]) -> list[PairScore]:
        return run_all(self, self.prepare(pairs))

    def shares(self, pairs: Sequence[Pair]) -> list[float]:
        """At most how much of each pair's work is left, in (0, 1]: less where the states are kept."""
        keys = [self._keys.get(hash(passage)) for _, passage in pairs]
        known = self._states.known({key for key in keys if key is not None})
        return [self._share(OVERHEAD_LAYERS) if key in known else 1.0 for key in keys]

    def prepare(self, pairs: Sequence[Pair]) -> list[SplitPair]:
        """States of the queries and tokens of the passages; a text that several pairs share is read once."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        passages = list(dict.fromkeys(passage for _, passage in pairs))
        query_of = dict(zip(queries, self._tokenizer.queries(queries), strict=True))
        passage_of = dict(zip(passages, self._tokenizer.passages(passages), strict=True))
        states_of = dict(zip(queries, self._apart(list(query_of.values())), strict=True))
        keys = {text: state_key(self._graphs.parts.lower, one.ids) for text, one in passage_of.items()}
        self._remember(keys)
        shares = self.shares(pairs)
        return [
            SplitPair(
                query=states_of[query],
                passage=passage_of[passage],
                key=keys[passage],
                work=ceil(share * (len(query_of[query]) + len(passage_of[passage]))),
                truncated=query_of[query].truncated or passage_of[passage].truncated,
            )
            for (query, passage), share in zip(pairs, shares, strict=True)
        ]

    def run(self, batch: Sequence[SplitPair]) -> list[PairScore]:
        """The score of each input; one batch, so inputs should be of like length."""
        scores = self._graphs.together.run(self._joined(batch, self._passages(batch)))
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.info.name} gave a score that is not finite", model=self.info.name)
        return [PairScore(score, pair.truncated) for score, pair in zip(scores.tolist(), batch, strict=True)]

    def _passages(self, batch: Sequence[SplitPair]) -> dict[bytes, States]:
        """States of the batch's passages by key, kept or made; says what work each pair was."""
        tokens = {pair.key: pair.passage for pair in batch}
        kept = dict(zip(tokens, self._states.get(tokens.keys()), strict=True))
        found = {key: states for key, states in kept.items() if states is not None}
        missing = [key for key in tokens if key not in found]
        made = {
            key: self._rounded(states)
            for key, states in zip(missing, self._apart([tokens[key] for key in missing]), strict=True)
        }
        for key, states in made.items():
            self._states.put(key, states)
        new = set(missing)
        for pair in batch:
            pair.work = len(pair) if pair.key in new else max(1, int(len(pair) * self._share()))
            new.discard(pair.key)
        return found | made

    def _apart(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """States of each text after the lower layers, ``(tokens, width)``; run in batches of like length."""
        states: dict[int, NDArray[np.float32]] = {}
        for places in pack([len(text) for text in texts], self.batch_tokens):
            batch = [texts[place] for place in places]
            made = self._graphs.apart.run(arrays(batch, self._pad_id, token_types=False))
            for place, text, row in zip(places, batch, made, strict=True):
                states[place] = row[: len(text)]
        return [states[place] for place in range(len(texts))]

    def _rounded(self, states: NDArray[np.float32]) -> States:
        with np.errstate(over="ignore"):
            rounded = states.astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ModelError(f"{self.info.name} gave a state that is not finite", model=self.info.name)
        return rounded

    def _joined(self, batch: Sequence[SplitPair], passages: dict[bytes, States]) -> dict[str, NDArray[Any]]:
        """The upper layers' inputs by name; states have the shape ``(len(batch), longest, width)``."""
        shape = (len(batch), max(len(pair) for pair in batch))
        states = np.zeros((*shape, self._graphs.parts.width), np.float32)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, pair in enumerate(batch):
            begin, end = len(pair.query), len(pair)
            states[row, :begin], states[row, begin:end] = pair.query, passages[pair.key]
            mask[row, :end], types[row, begin:end] = 1, 1
        return {"states": states, "attention_mask": mask, "token_type_ids": types}

    def _share(self, more_layers: float = 0.0) -> float:
        """How much of the work is left of a pair whose states are kept."""
        parts = self._graphs.parts
        return min(1.0, (parts.joint_layers + more_layers) / parts.layers)

    def _remember(self, keys: dict[str, bytes]) -> None:
        """By hash: a wrong one spoils no score, only what is said of its cost."""
        if len(self._keys) + len(keys) > REMEMBERED_TEXTS:
            self._keys.clear()
        self._keys.update((hash(text), key) for text, key in keys.items())
