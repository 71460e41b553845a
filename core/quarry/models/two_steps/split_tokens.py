"""Tokens of pairs whose texts are cut each by itself, so that a passage is read alike for every query."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarry.errors import ModelError
from quarry.models.tokenization import TextTokenizer, Tokens

QUERY_TOKENS = 64
"""Room for the query, special tokens included; at most half of what the model reads."""


class SplitTokenizer(TextTokenizer):
    """The tokenizer of a split cross-encoder. Callable from any thread.

    Attributes:
        query_tokens, passage_tokens: the longest query and passage, special tokens included; ``max_tokens``
            together.
    """

    def __init__(self, file: Path, max_tokens: int) -> None:
        """Raises ModelError as ``TextTokenizer``, or if there is no room for a query."""
        super().__init__(file, max_tokens)
        self.query_tokens = min(QUERY_TOKENS, max_tokens // 2)
        self.passage_tokens = max_tokens - self.query_tokens
        if self.query_tokens <= self._single.size:
            raise ModelError(f"{file} leaves no room for a query in {max_tokens} tokens")

    def encode_queries(self, texts: Sequence[str]) -> list[Tokens]:
        """Encodes one text an input, cut at the end to ``query_tokens``."""
        return self._cut(texts, self.query_tokens)

    def encode_passages(self, texts: Sequence[str]) -> list[Tokens]:
        """Encodes one text an input, cut at the end to ``passage_tokens``."""
        return self._cut(texts, self.passage_tokens)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Tokens]:
        """Encodes two texts an input, for the whole model."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        passages = list(dict.fromkeys(passage for _, passage in pairs))
        query_of = dict(zip(queries, self.encode_queries(queries), strict=True))
        passage_of = dict(zip(passages, self.encode_passages(passages), strict=True))
        return [_join(query_of[query], passage_of[passage]) for query, passage in pairs]

    def _cut(self, texts: Sequence[str], tokens: int) -> list[Tokens]:
        room = tokens - self._single.size
        return [self._single.wrap([ids[:room]], len(ids) > room) for ids in self._encode_ids(texts, room)]


def _join(query: Tokens, passage: Tokens) -> Tokens:
    return Tokens(
        np.concatenate([query.ids, passage.ids]),
        np.repeat([0, 1], [len(query), len(passage)]),
        query.truncated or passage.truncated,
    )
