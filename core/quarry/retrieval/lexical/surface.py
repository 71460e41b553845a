"""The words of a text as people type them: without accents and capitals, and never stemmed."""

import functools
import re
from collections.abc import Iterator, Sequence

import regex

from quarry.retrieval.base import TypedWord
from quarry.retrieval.lexical.cutting import CHARACTER, RUNS_AND_WORDS
from quarry.retrieval.lexical.folding import list_folds, normalize_text

_ASCII_WORD = re.compile("[a-z0-9]+")
_PIECES = regex.compile(r"\s+|\S+")
_SIGNED = regex.compile(r"(?<![\p{L}\p{N}\p{M}+#])[\p{L}\p{N}\p{M}]++[+#]++(?![\p{L}\p{N}\p{M}])")
_CLUSTERS = regex.compile(r"\X")

Span = tuple[int, int]
"""Where something begins and ends in a text, in characters."""


def fold_text(text: str) -> str:
    """Returns ``text`` in small letters without accents; its length may change."""
    if text.isascii():
        return text.lower()
    return normalize_text(text, "none").casefold().translate(list_folds("none")[0])


def find_words(folded: str) -> list[Span]:
    """Finds the words of a folded text; each character of a script without spaces is one."""
    if folded.isascii():
        return [found.span() for found in _ASCII_WORD.finditer(folded)]
    return [span for span, _ in _find_words(folded)]


def list_words(folded: str) -> list[str]:
    """Lists what ``find_words`` finds."""
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    return [folded[start:end] for (start, end), _ in _find_words(folded)]


def list_signed_words(folded: str) -> tuple[str, ...]:
    """Lists words with the signs that end them, as ``c++`` and ``c#``; ``find_words`` finds ``c`` of both."""
    if "+" not in folded and "#" not in folded:
        return ()
    return tuple(_SIGNED.findall(folded))


def parse_typed(text: str) -> tuple[TypedWord, ...]:
    """Reads what somebody has typed so far; only the last word may go on, unless something follows it."""
    folded = fold_text(text)
    typed = [
        TypedWord(folded[start:end], ends=is_whole or end < len(folded))
        for (start, end), is_whole in _find_words(folded)
    ]
    return tuple(TypedWord(word.text, ends=True) for word in typed[:-1]) + tuple(typed[-1:])


def map_spans(text: str, spans: Sequence[Span]) -> list[Span]:
    """Finds in ``text`` what the spans, of a character at least, are in the folded text."""
    if text.isascii():
        return list(spans)
    folded = fold_text(text)
    if len(folded) == len(text) and all(fold_text(text[s:e]) == folded[s:e] for s, e in spans):
        return list(spans)
    places = [
        (piece.start() + start, piece.start() + end)
        for piece in _PIECES.finditer(text)
        for start, end in _place_folded(piece[0])
    ]
    return [(places[start][0], places[end - 1][1]) for start, end in spans if end <= len(places)]


@functools.lru_cache(8_192)
def _place_folded(text: str) -> tuple[Span, ...]:
    """Finds for each character of the folded ``text`` the part of ``text`` that it comes from."""
    return tuple(found.span() for found in _CLUSTERS.finditer(text) for _ in range(len(fold_text(found[0]))))


def _find_words(folded: str) -> Iterator[tuple[Span, bool]]:
    """Finds words, and tells of each whether it is a character that nothing can complete."""
    for found in RUNS_AND_WORDS.finditer(folded):
        if found.lastgroup == "run":
            for character in CHARACTER.finditer(found[0]):
                yield (found.start() + character.start(), found.start() + character.end()), True
        else:
            yield found.span(), found.lastgroup == "symbol"
