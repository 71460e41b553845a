"""The words of a folded text, which has neither accents nor capitals: what somebody types is compared with
them."""

import re
from collections.abc import Iterator, Sequence

import regex

from quarry.retrieval.base import TypedWord
from quarry.retrieval.lexical.cutting import CHARACTER, RUNS_AND_WORDS
from quarry.retrieval.lexical.folding import list_folds, normalize_text
from quarry.retrieval.lexical.spans import Span, align_text

_ASCII_WORD = re.compile("[a-z0-9]+")
_SIGNED = regex.compile(r"(?<![\p{L}\p{N}\p{M}+#])[\p{L}\p{N}\p{M}]++[+#]++(?![\p{L}\p{N}\p{M}])")


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
    _, places = align_text(text, fold_text)
    return [(places[start][0], places[end - 1][1]) for start, end in spans if end <= len(places)]


def _find_words(folded: str) -> Iterator[tuple[Span, bool]]:
    """Finds words, and tells of each whether it is a character that nothing can complete."""
    for found in RUNS_AND_WORDS.finditer(folded):
        if found.lastgroup == "run":
            for character in CHARACTER.finditer(found[0]):
                yield (found.start() + character.start(), found.start() + character.end()), True
        else:
            yield found.span(), found.lastgroup == "symbol"
