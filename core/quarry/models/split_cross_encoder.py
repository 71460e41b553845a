"""The split cross-encoder, served in two steps: states of each text, which are kept, and scores of pairs."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.loading import Runner
from quarry.models.packing import alike, arrays, pack
from quarry.models.running import run_all
from quarry.models.split_parts import SplitParts
from quarry.models.split_tokens import SplitTokenizer
from quarry.models.state_cache import StateCache, state_key
from quarry.models.state_forms import StateForm, States
from quarry.models.tokens import Tokens

Pair = tuple[str, str]
_DIGEST_BYTES = 16
_NO_QUERY = np.empty((0, 0), np.float32)
REMEMBERED_TEXTS = 100_000
"""Passages that need not be read again to know what their states are kept under; about 40 MB."""
OVERHEAD_LAYERS = 0.5
"""Added to the joint layers when the cost of a pair is promised: with one of six, a pair whose states are
kept took 0.19 of the whole, not 0.17."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as far as it is known without its tokens.

    Attributes:
        key: of its states.
        tokens: how many are read.
        truncated: whether it is longer.
    """

    key: bytes
    tokens: int
    truncated: bool


@dataclass(slots=True, eq=False)
class SplitPair:
    """A pair, ready to be run; its length is in tokens.

    Attributes:
        query: its states, shape ``(tokens, width)``.
        text: of the passage.
        tokens: of the passage; None if they were not read, since its states were kept.
        work: tokens of a pair of which nothing is known that cost as much: before it is run at most, after it
            was run at least, so that no speed is taken from cheap pairs that others would not reach.
        truncated: whether either text was longer than the model reads.
    """

    query: NDArray[np.float32]
    text: str
    passage: Passage
    tokens: Tokens | None
    work: int
    truncated: bool

    def __len__(self) -> int:
        return len(self.query) + self.passage.tokens

    @property
    def key(self) -> bytes:
        return self.passage.key


@dataclass(frozen=True, slots=True)
class SplitGraphs:
    """The two graphs of a split cross-encoder, ready to run, and what is known of them.

    Attributes:
        form: in which states of passages reach the second.
    """

    apart: Runner
    together: Runner
    parts: SplitParts
    form: StateForm


class SplitCrossEncoder:
    """A ``CrossEncoder`` that a batcher can also drive in steps. Callable from any thread.

    States of passages are always rounded to the form they are kept in, kept or not, so that a score does not
    depend on what was kept. Those of queries never are: they are not kept, and rounding them would tell more,
    as they are few.

    Args:
        pad_id: token that fills up shorter texts of a batch.
        states: where those of passages are kept; versions with the same lower layers should share one.
    """

    def __init__(
        self, info: ModelInfo, tokenizer: SplitTokenizer, graphs: SplitGraphs, pad_id: int, states: StateCache
    ) -> None:
        self._info, self._tokenizer, self._graphs, self._pad_id = info, tokenizer, graphs, pad_id
        self._states = states
        self._read: dict[bytes, Passage] = {}
        self.batch_tokens = graphs.together.batch_tokens
        self.parallel = graphs.together.parallel

    @property
    def info(self) -> ModelInfo:
        return self._info

    def score(self, pairs: Sequence[Pair]) -> list[PairScore]:
        return run_all(self, self.prepare(pairs))

    def shares(self, pairs: Sequence[Pair]) -> list[float]:
        """At most how much of each pair's work is left, in (0, 1]: less where the states are kept."""
        passages = [self._read.get(_digest(passage)) for _, passage in pairs]
        known = self._states.known({passage.key for passage in passages if passage is not None})
        return [
            self._share(OVERHEAD_LAYERS) if passage is not None and passage.key in known else 1.0
            for passage in passages
        ]

    def prepare(self, pairs: Sequence[Pair]) -> list[SplitPair]:
        """States of the queries, and what is known of the passages; a text that several pairs share is read
        once, and a passage that was read before not at all."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        query_of = dict(zip(queries, self._tokenizer.queries(queries), strict=True))
        states_of = dict(zip(queries, self._apart(list(query_of.values())), strict=True))
        passage_of = self._passages_of(list(dict.fromkeys(passage for _, passage in pairs)))
        shares = self.shares(pairs)
        return [
            SplitPair(
                query=states_of[query],
                text=text,
                passage=(passage := passage_of[text][0]),
                tokens=passage_of[text][1],
                work=ceil(share * (len(query_of[query]) + passage.tokens)),
                truncated=query_of[query].truncated or passage.truncated,
            )
            for (query, text), share in zip(pairs, shares, strict=True)
        ]

    def _passages_of(self, texts: Sequence[str]) -> dict[str, tuple[Passage, Tokens | None]]:
        """What is known of each, and the tokens of those that had to be read."""
        digests = {text: _digest(text) for text in texts}
        known = {text: self._read.get(digest) for text, digest in digests.items()}
        new = [text for text, passage in known.items() if passage is None]
        found = {text: (passage, None) for text, passage in known.items() if passage is not None}
        read = dict(zip(new, self._tokenizer.passages(new), strict=True))
        lower, form = self._graphs.parts.lower, self._graphs.form.name
        made = {
            text: Passage(state_key(lower, form, tokens.ids), len(tokens), tokens.truncated)
            for text, tokens in read.items()
        }
        if len(self._read) + len(made) > REMEMBERED_TEXTS:
            self._read.clear()
        self._read.update((digests[text], passage) for text, passage in made.items())
        return {**found, **{text: (passage, read[text]) for text, passage in made.items()}}

    def keep(self, passages: Sequence[str]) -> bool:
        """Stores the states of those that are not stored; False if there is no room. Leaves memory alone.

        Raises:
            ModelError: the model gave a state that cannot be kept.
            DiskFullError: there is no space.
        """
        found = self._passages_of(list(dict.fromkeys(passages)))
        stored = self._states.stored({passage.key for passage, _ in found.values()})
        missing = {
            passage.key: SplitPair(_NO_QUERY, text, passage, tokens, 0, passage.truncated)
            for text, (passage, tokens) in found.items()
            if passage.key not in stored
        }
        return self._states.store_all(self._made(list(missing.values())))

    def run(self, batch: Sequence[SplitPair]) -> list[PairScore]:
        """The score of each input; one batch, so inputs should be of like length."""
        passages = self._passages(batch)
        scores = np.empty(len(batch), np.float32)
        for places in alike(batch, self._graphs.together.precision):
            some = [batch[place] for place in places]
            scores[places] = self._graphs.together.run(self._joined(some, passages))
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.info.name} gave a score that is not finite", model=self.info.name)
        return [PairScore(score, pair.truncated) for score, pair in zip(scores.tolist(), batch, strict=True)]

    def _passages(self, batch: Sequence[SplitPair]) -> dict[bytes, States]:
        """States of the batch's passages by key, kept or made; says what work each pair was."""
        pairs = {pair.key: pair for pair in batch}
        kept = dict(zip(pairs, self._states.get(pairs.keys()), strict=True))
        found = {key: states for key, states in kept.items() if states is not None}
        made = self._made([pairs[key] for key in pairs if key not in found])
        for key, states in made.items():
            self._states.put(key, states)
        new = set(made)
        for pair in batch:
            pair.work = len(pair) if pair.key in new else max(1, int(len(pair) * self._share()))
            new.discard(pair.key)
        return found | made

    def _made(self, pairs: Sequence[SplitPair]) -> dict[bytes, States]:
        """States of the pairs' passages, made now; a text whose states have gone meanwhile is read again."""
        unread = [pair for pair in pairs if pair.tokens is None]
        for pair, tokens in zip(unread, self._tokenizer.passages([p.text for p in unread]), strict=True):
            pair.tokens = tokens
        made = self._apart([pair.tokens for pair in pairs if pair.tokens is not None])
        return {pair.key: self._rounded(states) for pair, states in zip(pairs, made, strict=True)}

    def _apart(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """States of each text after the lower layers, ``(tokens, width)``; run in batches of like length."""
        states: dict[int, NDArray[np.float32]] = {}
        for places in self._packed(texts):
            batch = [texts[place] for place in places]
            made = self._graphs.apart.run(arrays(batch, self._pad_id, token_types=False))
            for place, text, row in zip(places, batch, made, strict=True):
                states[place] = row[: len(text)]
        return [states[place] for place in range(len(texts))]

    def _packed(self, texts: Sequence[Tokens]) -> Iterator[list[int]]:
        for places in pack([len(text) for text in texts], self.batch_tokens):
            for some in alike([texts[place] for place in places], self._graphs.together.precision):
                yield [places[place] for place in some]

    def _rounded(self, states: NDArray[np.float32]) -> States:
        rounded = self._graphs.form.keep(states)
        if not np.isfinite(self._graphs.form.read(rounded)).all():
            raise ModelError(f"{self.info.name} gave a state that is not finite", model=self.info.name)
        return rounded

    def _joined(self, batch: Sequence[SplitPair], passages: dict[bytes, States]) -> dict[str, NDArray[Any]]:
        """The upper layers' inputs by name; states have the shape ``(len(batch), longest, width)``."""
        shape = (len(batch), max(len(pair) for pair in batch))
        states = np.zeros((*shape, self._graphs.parts.width), np.float32)
        read = {pair.key: self._graphs.form.read(passages[pair.key]) for pair in batch}
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, pair in enumerate(batch):
            begin, end = len(pair.query), len(pair)
            states[row, :begin], states[row, begin:end] = pair.query, read[pair.key]
            mask[row, :end], types[row, begin:end] = 1, 1
        return {"states": states, "attention_mask": mask, "token_type_ids": types}

    def _share(self, more_layers: float = 0.0) -> float:
        """How much of the work is left of a pair whose states are kept."""
        parts = self._graphs.parts
        return min(1.0, (parts.joint_layers + more_layers) / parts.layers)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
