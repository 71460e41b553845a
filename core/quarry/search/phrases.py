"""The phrases that begin as somebody types, counted in the beginnings of documents."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import regex

from quarry.retrieval.base import Excerpt, TypedWord
from quarry.retrieval.lexical.excerpts.excerpts import TOLERANT_FROM, matches_word
from quarry.retrieval.lexical.folded_words import fold_text, list_words, map_spans
from quarry.retrieval.lexical.spans import Span
from quarry.types import Docno

MOST_WORDS = 4
FEWEST_DOCUMENTS = 2
SPELLINGS_READ = 20
"""Documents that say how a phrase is written."""

_LETTERS = regex.compile(r"[\p{L}\p{N}\p{M}]++")
_NEXT = regex.compile(r"(?:\s{1,2}|[-'’])([\p{L}\p{N}\p{M}]++)")
_GOES_ON = regex.compile(r"['’][\p{L}\p{N}\p{M}]")
_SPACES = re.compile(r"[\s-]+")
Place = tuple[str, Span]
"""A text, and where in its folded form the phrase stands."""
IsStopWord = Callable[[str], bool]
"""Tells whether a word, in small letters, is one that no phrase ends or begins with."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase of two words or more.

    Attributes:
        text: as most documents write it.
        words: without accents and capitals, a space between two.
        documents: how many of the excerpts have it.
    """

    text: str
    words: str
    documents: int


def count_phrases(
    typed: Sequence[TypedWord],
    excerpts: Iterable[Excerpt],
    is_stop: IsStopWord,
    limit: int,
    tolerant: bool = False,
) -> list[Phrase]:
    """Counts the phrases that begin with the ``typed`` words; the ``limit`` most frequent ones come first.

    A phrase has two to four words, or as many as are typed, and neither begins nor ends with a stop word.
    One that stands in a single text only, such as a title that documents share, is left out; and of two
    phrases in as many documents the one that the other begins with.
    """
    texts = [(e.docno, text, fold_text(text)) for e in excerpts for text in (e.title, *e.texts)]
    firsts = _list_firsts(typed[0], (folded for _, _, folded in texts), tolerant)
    found: defaultdict[str, dict[Docno, Place]] = defaultdict(dict)
    different: defaultdict[str, set[str]] = defaultdict(set)
    for docno, text, folded in texts:
        for span in _find_phrases(typed, firsts, folded, tolerant):
            words = " ".join(list_words(folded[slice(*span)]))
            found[words].setdefault(docno, (text, span))
            different[words].add(folded)
    frequent = {
        words: places
        for words, places in found.items()
        if len(places) >= FEWEST_DOCUMENTS and len(different[words]) > 1
    }
    phrases: list[Phrase] = []
    for words in sorted(_leave_longest(frequent), key=lambda w: (-len(frequent[w]), len(w), w)):
        text = _choose_spelling(list(frequent[words].values())[:SPELLINGS_READ])
        ends = _SPACES.split(text.lower())
        if len(ends) > 1 and not is_stop(ends[0]) and not is_stop(ends[-1]):
            phrases.append(Phrase(text, words, len(frequent[words])))
        if len(phrases) == limit:
            break
    return phrases


def _list_firsts(first: TypedWord, texts: Iterable[str], tolerant: bool) -> list[str]:
    """Lists the words that may stand for the first typed one, or what they begin with."""
    if not tolerant or len(first.text) < TOLERANT_FROM:
        return [first.text]
    vocabulary = {word for text in texts for word in list_words(text)}
    return sorted(word for word in vocabulary if matches_word(first, word, tolerant))


def _find_phrases(
    typed: Sequence[TypedWord], firsts: Iterable[str], text: str, tolerant: bool
) -> Iterator[Span]:
    """Finds where phrases of each number of words begin and end in a folded text."""
    for first in firsts:
        start = text.find(first)
        while start >= 0:
            if not start or not _LETTERS.match(text, start - 1, start):
                for end in _list_ends(typed, text, start, tolerant):
                    yield start, end
            start = text.find(first, start + len(first))


def _list_ends(typed: Sequence[TypedWord], text: str, start: int, tolerant: bool) -> Iterator[int]:
    """Lists where the phrases end that begin at ``start``, if the typed words stand there."""
    count, end = 0, start
    word = _LETTERS.match(text, start)
    while word is not None and count < max(MOST_WORDS, len(typed)):
        found = word[word.lastindex or 0]
        if count < len(typed) and not matches_word(typed[count], found, tolerant):
            return
        count, end = count + 1, word.end()
        if count >= max(2, len(typed)) and not _GOES_ON.match(text, end):
            yield end
        word = _NEXT.match(text, end)


def _leave_longest(found: dict[str, dict[Docno, Place]]) -> list[str]:
    """Leaves out each phrase that a longer one begins with which as many documents have."""
    by_count: defaultdict[int, list[str]] = defaultdict(list)
    for words, places in found.items():
        by_count[len(places)].append(words)
    return [words for some in by_count.values() for words in _leave_no_beginnings(some)]


def _leave_no_beginnings(phrases: Collection[str]) -> list[str]:
    ordered = sorted(f"{words} " for words in phrases)  # what begins with a phrase comes right after it
    following = [*ordered[1:], ""]
    return [w[:-1] for w, after in zip(ordered, following, strict=True) if not after.startswith(w)]


def _choose_spelling(places: Iterable[Place]) -> str:
    """Chooses the most frequent one; of several the one with the fewest capitals."""
    spellings = Counter(
        " ".join(text[start:end].split()) for text, span in places for start, end in map_spans(text, [span])
    )
    return min(spellings, key=lambda s: (-spellings[s], sum(map(str.isupper, s)), s), default="")
