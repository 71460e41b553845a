"""A cross-encoder served in two steps: states of each text, of which passages' are kept, and scores of pairs.

What the states are and how a pair is scored from them is for its ``Steps``.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.caches.state_cache import StateCache, make_state_key, make_text_digest
from quarry.models.caches.state_forms import StateForm, States
from quarry.models.runtime.packing import group_alike
from quarry.models.runtime.running import run_all
from quarry.models.tokenization import Tokens
from quarry.models.two_steps.split_tokens import SplitTokenizer

Pair = tuple[str, str]
REMEMBERED_TEXTS = 100_000
"""Passages that need not be read again to know what their states are kept under; about 40 MB."""


class Steps(Protocol):
    """The two steps of a model: of texts, and of pairs. Callable from any thread.

    Attributes:
        fingerprint: of what makes the states; models that have the same one make the same states of a text.
        form: in which states of passages are kept, and reach ``scores``.
        batch_tokens: size of the batches of pairs that it runs fastest.
        parallel: how many of them it should be given at once.
        precision: of the arithmetic of ``scores``.
        kept_share: how much of a pair's work is left where the states are kept, in (0, 1].
        promised_share: at most how much of it, with what is not worth its own measure.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def form(self) -> StateForm: ...
    @property
    def batch_tokens(self) -> int: ...
    @property
    def parallel(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def kept_share(self) -> float: ...
    @property
    def promised_share(self) -> float: ...

    def encode_queries(self, texts: Sequence[Tokens]) -> Sequence[Sized]:
        """Encodes each query as ``score`` wants it; as long as it has tokens."""
        ...

    def encode_passages(self, texts: Sequence[Tokens]) -> Sequence[NDArray[np.float32]]:
        """Encodes each passage to states, shape ``(rows, width)``, as the form keeps them."""
        ...

    def score(self, queries: Sequence[Any], passages: Sequence[States]) -> NDArray[np.float32]:
        """Scores each pair of a query and a passage as it is kept."""
        ...


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
class TwoStepPair:
    """A pair, ready to be run; its length is in tokens.

    Attributes:
        query: what its ``Steps`` made of it.
        text: of the passage.
        tokens: of the passage; None if they were not read, since its states were kept.
        work: tokens of a pair of which nothing is known that cost as much: before it is run at most, after it
            was run at least, so that no speed is taken from cheap pairs that others would not reach.
        truncated: whether either text was longer than the model reads.
    """

    query: Sized
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


class TwoStepCrossEncoder:
    """A ``CrossEncoder`` that a batcher can also drive in steps. Callable from any thread.

    States of passages are always rounded to the form they are kept in, kept or not, so that a score does not
    depend on what was kept. Those of queries never are: they are not kept, and rounding them would tell more,
    as they are few.

    Args:
        states: where those of passages are kept; versions whose steps have one fingerprint should share one.
    """

    def __init__(self, info: ModelInfo, tokenizer: SplitTokenizer, steps: Steps, states: StateCache) -> None:
        self._info, self._tokenizer, self._steps, self._states = info, tokenizer, steps, states
        self._read: dict[bytes, Passage] = {}
        self.batch_tokens = steps.batch_tokens
        self.parallel = steps.parallel

    @property
    def info(self) -> ModelInfo:
        return self._info

    def score(self, pairs: Sequence[Pair]) -> list[PairScore]:
        return run_all(self, self.prepare(pairs))

    def estimate_shares(self, pairs: Sequence[Pair]) -> list[float]:
        """Estimates how much of each pair's work is left at most, in (0, 1]: less where the states are
        kept."""
        passages = [self._read.get(make_text_digest(passage)) for _, passage in pairs]
        known = self._states.find_known({passage.key for passage in passages if passage is not None})
        kept = self._steps.promised_share
        return [kept if passage is not None and passage.key in known else 1.0 for passage in passages]

    def prepare(self, pairs: Sequence[Pair]) -> list[TwoStepPair]:
        """Prepares what the queries are, and what is known of the passages; a text that several pairs share
        is read once, and a passage that was read before not at all."""
        texts = list(dict.fromkeys(query for query, _ in pairs))
        query_of = dict(zip(texts, self._tokenizer.encode_queries(texts), strict=True))
        made_of = dict(zip(texts, self._steps.encode_queries(list(query_of.values())), strict=True))
        passage_of = self._read_passages(list(dict.fromkeys(passage for _, passage in pairs)))
        shares = self.estimate_shares(pairs)
        return [
            TwoStepPair(
                query=made_of[query],
                text=text,
                passage=(passage := passage_of[text][0]),
                tokens=passage_of[text][1],
                work=ceil(share * (len(query_of[query]) + passage.tokens)),
                truncated=query_of[query].truncated or passage.truncated,
            )
            for (query, text), share in zip(pairs, shares, strict=True)
        ]

    def _read_passages(self, texts: Sequence[str]) -> dict[str, tuple[Passage, Tokens | None]]:
        """Reads what is known of each, and the tokens of those that had to be read."""
        digests = {text: make_text_digest(text) for text in texts}
        known = {text: self._read.get(digest) for text, digest in digests.items()}
        new = [text for text, passage in known.items() if passage is None]
        found = {text: (passage, None) for text, passage in known.items() if passage is not None}
        read = dict(zip(new, self._tokenizer.encode_passages(new), strict=True))
        by, form = self._steps.fingerprint, self._steps.form.name
        made = {
            text: Passage(make_state_key(by, form, tokens.ids, text), len(tokens), tokens.truncated)
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
        found = self._read_passages(list(dict.fromkeys(passages)))
        stored = self._states.find_stored({passage.key for passage, _ in found.values()})
        missing = {
            passage.key: TwoStepPair((), text, passage, tokens, 0, passage.truncated)
            for text, (passage, tokens) in found.items()
            if passage.key not in stored
        }
        return self._states.store_if_room(self._make_states(list(missing.values())))

    def run(self, batch: Sequence[TwoStepPair]) -> list[PairScore]:
        """Scores each input; one batch, so inputs should be of like length."""
        passages = self._get_states(batch)
        scores = np.empty(len(batch), np.float32)
        for places in group_alike(batch, self._steps.precision):
            some = [batch[place] for place in places]
            scores[places] = self._steps.score(
                [pair.query for pair in some], [passages[pair.key] for pair in some]
            )
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.info.name} gave a score that is not finite", model=self.info.name)
        return [PairScore(score, pair.truncated) for score, pair in zip(scores.tolist(), batch, strict=True)]

    def _get_states(self, batch: Sequence[TwoStepPair]) -> dict[bytes, States]:
        """Returns states of the batch's passages by key, kept or made; says what work each pair was."""
        pairs = {pair.key: pair for pair in batch}
        kept = dict(zip(pairs, self._states.get(pairs.keys()), strict=True))
        found = {key: states for key, states in kept.items() if states is not None}
        made = self._make_states([pairs[key] for key in pairs if key not in found])
        for key, states in made.items():
            self._states.put(key, states)
        new, share = set(made), self._steps.kept_share
        for pair in batch:
            pair.work = len(pair) if pair.key in new else max(1, int(len(pair) * share))
            new.discard(pair.key)
        return found | made

    def _make_states(self, pairs: Sequence[TwoStepPair]) -> dict[bytes, States]:
        """Makes the states of the pairs' passages now.

        A text whose states have gone meanwhile is read again.
        """
        unread = [pair for pair in pairs if pair.tokens is None]
        for pair, tokens in zip(
            unread, self._tokenizer.encode_passages([p.text for p in unread]), strict=True
        ):
            pair.tokens = tokens
        made = self._steps.encode_passages([pair.tokens for pair in pairs if pair.tokens is not None])
        return {pair.key: self._round(states) for pair, states in zip(pairs, made, strict=True)}

    def _round(self, states: NDArray[np.float32]) -> States:
        rounded = self._steps.form.keep(states)
        if not np.isfinite(self._steps.form.read(rounded)).all():
            raise ModelError(f"{self.info.name} gave a state that is not finite", model=self.info.name)
        return rounded
