"""Text cut into words, and into runs of the scripts that put no spaces between words.

A document and a query are cut the same way, whatever index they are for: the index says how it splits
ordinary text into words, and what is cut here goes beside them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import regex

from quarry.retrieval.lexical.folding import list_english_folds, list_folds, normalize_text

UNSPACED = (
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\p{Script=Yi}"
    r"\p{Line_Break=Complex_Context}ー]"
)
"""Chinese, Japanese, Korean, and the scripts of South-East Asia, from Thai to Khmer, whose lines break by
dictionary."""
_SYMBOL = (
    r"\p{Regional_Indicator}{2}"
    r"|[[\p{Extended_Pictographic}\p{Emoji_Presentation}]--[\u0000-\u22ff\p{Emoji_Modifier}]]"
)
"""Emoji and their like, flags as one; shades of skin and joiners count for nothing."""
_RUN = rf"(?P<run>{UNSPACED}(?:{UNSPACED}|\p{{M}})*+)|(?P<symbol>{_SYMBOL})"
_RUNS = regex.compile(_RUN, regex.V1)
RUNS_AND_WORDS = regex.compile(rf"{_RUN}|(?P<word>[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]++)", regex.V1)
_HIGH = re.compile("[\u0e00-\U0010ffff]+")
"""Runs and symbols are in here; to look at each character's script takes much longer."""
_BREAKING_MARK = regex.compile(r"[\p{M}--\p{Alphabetic}]", regex.V1)
"""Marks that are no letters: a word may hold them, and a tokenizer of letters and digits breaks there."""
_FOREIGN_MARK = re.compile("[\u0300-\u036f\u20d0-\u20ff]+")
"""Accents and their like, which no script without spaces uses."""
CHARACTER = regex.compile(r".(?:[\u17d2\u1039]\p{L}|\p{M}){0,8}+", regex.V1 | regex.DOTALL)
"""A letter with its marks, and with the consonants below it in Khmer and Burmese."""


FORM = "\ua66e"
"""Stands before a form of a word that the text has in another spelling, and begins no word of a text."""


class Word(NamedTuple):
    """A word of a text.

    Attributes:
        text: as it is indexed.
        position: its place among the words and characters of the text, from 0.
        start: where it begins, in characters of the normalised text.
        end: where it ends.
        forms: its other spellings, without accents, as they are indexed.
    """

    text: str
    position: int
    start: int
    end: int
    forms: tuple[str, ...] = ()

    def list_terms(self) -> Iterator[tuple[str, int]]:
        """Lists what a document is indexed by, each with its position."""
        yield self.text, self.position
        for form in self.forms:
            yield FORM + form, self.position


Split = Callable[[str], Iterable[Word]]
"""Splits ordinary text into words, without other forms."""


class Run(NamedTuple):
    """Characters of a script without spaces that follow one another, or one symbol; with the
    attributes of a word."""

    characters: tuple[str, ...]
    position: int
    start: int
    end: int

    @property
    def pairs(self) -> tuple[str, ...]:
        """Each character with the next one; a run of one has no pair."""
        return tuple(a + b for a, b in zip(self.characters, self.characters[1:], strict=False))

    def list_terms(self) -> Iterator[tuple[str, int]]:
        """Lists what a document is indexed by: each character stands where the pair that it begins does."""
        for terms in (self.characters, self.pairs):
            for n, term in enumerate(terms):
                yield term, self.position + n


class TextCutter:
    """Cuts texts of one language.

    Args:
        language: a key of ``LANGUAGES`` or ``UNSTEMMED``, or ``none``.
        split: splits ordinary text into words.
        read_word: reads the text of one word, which may hold marks, as ``split`` does.
    """

    def __init__(self, language: str, split: Split, read_word: Split) -> None:
        self._language, self._split, self._read_word = language, split, read_word
        self._folds = () if language == "en" else list_folds(language)
        self._english_folds = list_english_folds() if language == "en" else {}
        changing = {key for table in (*self._folds, self._english_folds) for key in table}
        self._foldable = re.compile(f"[{re.escape(''.join(map(chr, sorted(changing))))}]")

    def normalize(self, text: str) -> str:
        """Puts ``text`` in the form that ``is_plain`` and ``cut`` take; English is folded, too."""
        text = normalize_text(text, self._language)
        if self._english_folds and not text.isascii() and self._foldable.search(text):
            text = text.translate(self._english_folds)
        return text

    def is_plain(self, text: str) -> bool:
        """Tells whether ``text`` has nothing but ordinary words without other spellings."""
        if text.isascii():
            return True
        high = "".join(_HIGH.findall(text))
        return not (self._has_forms(text) or (high and _RUNS.search(high)) or _BREAKING_MARK.search(text))

    def cut(self, text: str) -> list[Word | Run]:
        if text.isascii():
            return list(self._split(text))
        parts: list[Word | Run] = []
        ended, position = 0, 0
        for found in _find_runs(text):
            start, end = found.span()
            for word in self._cut_words(text[ended:start], self._split, position, ended):
                parts.append(word)
                position = word.position + 1
            if found.lastgroup == "word":
                parts += self._cut_words(found[0], self._read_word, position, start)
                position += 1
            else:
                text_of_run = _FOREIGN_MARK.sub("", found[0])
                characters = CHARACTER.findall(text_of_run) if found.lastgroup == "run" else [found[0]]
                parts.append(Run(tuple(characters), position, start, end))
                position += max(1, len(characters) - 1)
            ended = end
        parts += self._cut_words(text[ended:], self._split, position, ended)
        return parts

    def _has_forms(self, text: str) -> bool:
        return bool(self._folds) and self._foldable.search(text) is not None

    def _cut_words(self, text: str, split: Split, position: int, offset: int) -> Iterator[Word]:
        if not text or text.isspace():
            return
        has_forms = self._has_forms(text)
        for word in split(text):
            forms = self._list_forms(word.text, text[word.start : word.end]) if has_forms else ()
            yield Word(word.text, position + word.position, offset + word.start, offset + word.end, forms)

    def _list_forms(self, word: str, written: str) -> tuple[str, ...]:
        if not self._foldable.search(written):
            return ()
        read = (self._read_word(written.translate(table)) for table in self._folds)
        return tuple(dict.fromkeys(form.text for words in read for form in words if form.text != word))


def _find_runs(text: str) -> Iterator[regex.Match[str]]:
    """Finds runs and symbols, and whole words where a text has words with marks that a tokenizer breaks."""
    if _BREAKING_MARK.search(text):
        yield from RUNS_AND_WORDS.finditer(text)
        return
    for high in _HIGH.finditer(text):
        yield from _RUNS.finditer(text, *high.span())
