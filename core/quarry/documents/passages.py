"""Cuts documents into overlapping passages that the encoder reads whole, at sentence borders where it can.

Sentences come from ``sentencex``: it cut 68 MB/s of technical documentation, and its sentences put together
are the text again, so that places in the text survive.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import sentencex

from quarry.documents.catalog import PassagePolicy
from quarry.errors import Cancelled
from quarry.models.base import Encoder
from quarry.models.tokenization import replace_surrogates
from quarry.retrieval.base import MAX_PASSAGES

Span = tuple[int, int]

SPECIAL_TOKENS = 2
"""Around a text: one before, one after, in every encoder family that is supported."""
BLOCK_CHARACTERS = 65_536
"""A text is read in blocks of this size, so that no call keeps other threads waiting for long."""
CHARACTERS_PER_TOKEN = 32
"""Of a text whose first passage alone is wanted, this times the passage's tokens is read."""
WORDS_A_PASSAGE, WORDS_REPEATED = 96, 16
"""Of a passage that no encoder cuts: with some 1.3 tokens a word, 128 are not exceeded by much."""
MOST_BY_WORDS = 20_000
"""Characters that are cut by words, some thirty passages: fifty such texts take a search some 50 ms."""
_WORD = re.compile(r"\w{1,16}")
CUTTING = 1
"""Raised when the same text would be cut differently, so that no cached cut is used for it."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text that the encoder reads of a document.

    Attributes:
        title: stands in front of each passage.
        text: all else, one string; passages are places in it.
        language: ISO 639-1 code, for the borders of sentences.
    """

    title: str
    text: str
    language: str = "en"

    @classmethod
    def from_pieces(cls, title: str, pieces: Sequence[str], language: str = "en") -> "SourceText":
        """Joins a title and several texts, which become paragraphs."""
        return cls(title, "\n\n".join(pieces), language)


@dataclass(frozen=True, slots=True)
class Cut:
    """The places where a text is cut.

    Attributes:
        title_end: how many characters of the title stand in front of each passage.
        spans: (start, end) characters of each passage in the text, in order, overlapping.
    """

    title_end: int
    spans: tuple[Span, ...]


def build_passage_text(source: SourceText, cut: Cut, passage: int) -> str:
    """Builds the text that is encoded, and shown to a re-ranker, for one passage."""
    start, end = cut.spans[passage]
    return f"{source.title[: cut.title_end]}\n{source.text[start:end]}".strip()


def build_passage_texts(source: SourceText, cut: Cut) -> list[str]:
    """Builds all passages of a document, in order."""
    return [build_passage_text(source, cut, passage) for passage in range(len(cut.spans))]


def cut_passages_by_words(source: SourceText) -> list[str]:
    """Cuts a document that no encoder reads into passages, in order: title and some ``WORDS_A_PASSAGE`` words
    each.

    Most re-rankers read these whole. A document without any word has none, and of a text its first
    ``MOST_BY_WORDS`` characters are cut: this is done in a search, for each of its candidates.
    """
    source = replace(source, text=source.text[:MOST_BY_WORDS])
    if not source.title.strip() and not source.text.strip():
        return []
    words = [match.span() for match in _WORD.finditer(source.text)]
    title = [match.span() for match in _WORD.finditer(source.title)]
    title_end, used = _cut_title(source.title, title, WORDS_A_PASSAGE // 2 if words else WORDS_A_PASSAGE)
    room = WORDS_A_PASSAGE - used
    if len(words) <= room:
        return [build_passage_text(source, Cut(title_end, ((0, len(source.text)),)), 0)]
    borders = _find_sentence_borders(source.text, source.language)
    spans = cut_text(source.text, words, borders, room, min(WORDS_REPEATED, room // 2))
    return build_passage_texts(source, Cut(title_end, tuple(spans[:MAX_PASSAGES])))


class PassageCutter:
    """Cuts documents for one encoder by one policy. Callable from any thread; blocks."""

    def __init__(self, encoder: Encoder, policy: PassagePolicy) -> None:
        self._encoder = encoder
        self._policy = policy
        limit = encoder.info.max_tokens
        self._room = min(policy.max_tokens or limit, limit) - SPECIAL_TOKENS

    @property
    def scope(self) -> str:
        """What a vector depends on besides the text: the encoder and how it is cut."""
        policy = self._policy
        cutting = f"{CUTTING}:{self._room}:{policy.overlap_tokens}:{int(policy.first_only)}"
        return f"{self._encoder.info.fingerprint}:{cutting}"

    def cut(
        self, sources: Sequence[SourceText], is_given_up: Callable[[], bool] = lambda: False
    ) -> list[Cut]:
        """Cuts each document into passages. One without any word has none; one of only a title has one.

        Args:
            is_given_up: is asked at each block of a text whether nobody waits for the passages any more.

        Raises:
            Cancelled: it said so.
        """
        return [self._cut_one(source, is_given_up) for source in sources]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Counts tokens that the encoder reads of passages, special ones included."""
        return sum(len(spans) + SPECIAL_TOKENS for spans in self._encoder.find_token_spans(texts))

    def _cut_one(self, source: SourceText, is_given_up: Callable[[], bool]) -> Cut:
        if not source.title.strip() and not source.text.strip():
            return Cut(0, ())
        if _fits_surely(source, self._room):
            return Cut(len(source.title), ((0, len(source.text)),))
        title_tokens = self._find_tokens(source.title, self._room, is_given_up)
        text = self._cut_readable(source.text)
        tokens = self._find_tokens(text, None, is_given_up)
        if len(title_tokens) + len(tokens) <= self._room:
            return Cut(len(source.title), ((0, len(source.text)),))
        title_end, used = _cut_title(source.title, title_tokens, self._room // 2 if tokens else self._room)
        borders = _find_sentence_borders(text, source.language)
        room = max(1, self._room - used)
        spans = cut_text(text, tokens, borders, room, min(self._policy.overlap_tokens, room // 2))
        if len(spans) > MAX_PASSAGES:
            spans = cut_text(text, tokens, borders, room, 0)
        return Cut(title_end, tuple(spans[: 1 if self._policy.first_only else MAX_PASSAGES]))

    def _cut_readable(self, text: str) -> str:
        """Returns the text, or as much of its beginning as surely makes a passage if only one is wanted."""
        limit = self._room * CHARACTERS_PER_TOKEN
        return next(_split_blocks(text, limit), "") if self._policy.first_only else text

    def _find_tokens(self, text: str, at_most: int | None, is_given_up: Callable[[], bool]) -> list[Span]:
        """Finds (start, end) of each token; of a bit more than ``at_most`` of them, if that is given."""
        found: list[Span] = []
        start = 0
        for block in _split_blocks(text, BLOCK_CHARACTERS):
            if is_given_up():
                raise Cancelled("nobody waits for these passages any more")
            found += ((start + a, start + b) for a, b in self._encoder.find_token_spans([block])[0] if b > a)
            start += len(block)
            if at_most is not None and len(found) > at_most:
                break
        return found


def cut_text(
    text: str, tokens: Sequence[Span], borders: Sequence[int], room: int, overlap: int
) -> list[Span]:
    """Cuts a text into spans of at most ``room`` tokens, at ``borders`` where possible.

    Args:
        tokens: (start, end) of each token in ``text``, in order.
        borders: where sentences start, ascending.
        room: tokens a passage can have, 1 or more.
        overlap: tokens of whole units that a passage may repeat from the one before; under ``room``.

    Returns:
        Spans in order. Every character that is not white space lies in one.
    """
    units = list(_find_units(text, tokens, borders, room))
    firsts = [first for first, _ in units] + [len(tokens)]
    starts = [start for _, start in units] + [len(text)]
    spans: list[Span] = []
    unit = 0
    while unit < len(units):
        end = max(bisect_left(firsts, firsts[unit] + room + 1) - 1, unit + 1)
        if firsts[end] == len(tokens):  # nothing but white space is left
            spans.append((starts[unit], len(text)))
            break
        spans.append((starts[unit], starts[end]))
        back = bisect_left(firsts, firsts[end] - overlap)
        # The unit after the repeated ones must fit too, or the passage would hold nothing new.
        fits = bisect_left(firsts, firsts[end + 1] - room)
        unit = min(max(back, fits, unit + 1), end)
    return spans


def _find_units(
    text: str, tokens: Sequence[Span], borders: Sequence[int], room: int
) -> Iterator[tuple[int, int]]:
    """Yields (first token, first character) of each piece that is never cut: sentences, or parts of long
    ones."""
    limits = [(bisect_left(tokens, (border,)), border) for border in borders]
    # A border inside a token would change what the encoder reads.
    whole = [(i, border) for i, border in limits if 0 < i < len(tokens) and tokens[i - 1][1] <= border]
    sentences = [(0, 0), *whole]
    for (first, start), (after, _) in zip(sentences, [*whole, (len(tokens), len(text))], strict=True):
        yield first, start
        while after - first > room:
            first = _find_word_start(tokens, first + room, first + room // 2)
            yield first, tokens[first][0]


def _find_word_start(tokens: Sequence[Span], position: int, earliest: int) -> int:
    """Finds the last token up to ``position`` with a gap before it; ``position`` if none follows
    ``earliest``.

    A word that is cut in two can have more tokens than it had.
    """
    for candidate in range(position, earliest, -1):
        if tokens[candidate - 1][1] < tokens[candidate][0]:
            return candidate
    return position


def _find_sentence_borders(text: str, language: str) -> list[int]:
    """Finds where sentences start."""
    borders: list[int] = []
    start = 0
    while start < len(text):
        block = text[start : start + BLOCK_CHARACTERS]
        sentences = list(sentencex.segment(language, replace_surrogates(block)))
        if start + len(block) < len(text) and len(sentences) > 1:
            sentences.pop()  # it may go on: the next block begins with it
        for sentence in sentences:
            borders.append(start)
            start += len(sentence)
    return borders


def _split_blocks(text: str, size: int) -> Iterator[str]:
    """Yields ``text`` in parts of at most ``size`` characters, which end at white space where there is
    some."""
    start = 0
    while len(text) - start > size:
        end = max(text.rfind("\n", start, start + size), text.rfind(" ", start, start + size)) + 1
        end = end if end > start else start + size
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _cut_title(title: str, tokens: Sequence[Span], most: int) -> tuple[int, int]:
    """Cuts the title: returns how many of its characters and tokens are kept, at most ``most`` tokens."""
    if len(tokens) <= most:
        return len(title), len(tokens)
    cut = _find_word_start(tokens, most, most // 2)
    return tokens[cut - 1][1] if cut else 0, cut


def _fits_surely(source: SourceText, room: int) -> bool:
    """No tokenizer makes more tokens than there are ASCII characters, the line break included."""
    short = len(source.title) + 1 + len(source.text) <= room
    return short and source.title.isascii() and source.text.isascii()
