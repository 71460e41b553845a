"""Completions of what somebody types: titles, and phrases that several documents have.

Every suggestion is read, in the call, from documents that pass the caller's filter and that the log still has
as the index does. Nothing is counted ahead, and nobody's queries are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from quarry.errors import OutOfRangeError, RequiredError
from quarry.filters import Filter
from quarry.ranking.ranking import Total
from quarry.retrieval.base import Excerpt, ExcerptIndex, ExcerptQuery, TypedWord
from quarry.retrieval.lexical.excerpts.excerpts import matches_word
from quarry.retrieval.lexical.folded_words import (
    find_words,
    fold_text,
    list_signed_words,
    list_words,
    map_spans,
    parse_typed,
)
from quarry.retrieval.lexical.spans import Span, join_spans
from quarry.search.phrases import IsStopWord, count_phrases
from quarry.search.resolving import Documents
from quarry.types import Docno

MAX_TYPED_BYTES = 512
DEFAULT_SUGGESTIONS, MAX_SUGGESTIONS = 10, 20
TITLES_READ = (2, 8, 40)
"""Titles that are read for each one that is wanted; more only where the first ones repeat each other."""
DRAWN, DRAWN_TOLERANT = 100, 50
"""Documents that are drawn to count phrases in."""
PHRASES_FROM = 3
"""Letters of an open word from which on it is looked for in texts: fewer are in nearly all of them."""


class SuggestionKind(StrEnum):
    TITLE = "title"
    PHRASE = "phrase"


@dataclass(frozen=True, slots=True)
class SuggestRequest:
    """A text that somebody types, and what may be suggested for it.

    Attributes:
        typed: 1 to 512 bytes of UTF-8.
        limit: most suggestions, 1 to 20.
        filter: only documents that pass it are read.
        kinds: of which the suggestions are.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    typed: str
    limit: int = DEFAULT_SUGGESTIONS
    filter: Filter | None = None
    kinds: frozenset[SuggestionKind] = frozenset(SuggestionKind)

    def __post_init__(self) -> None:
        if not self.typed.strip():
            raise RequiredError("text", "is empty")
        size = len(self.typed.encode())
        if size > MAX_TYPED_BYTES:
            raise OutOfRangeError("text", f"has {size} bytes, at most {MAX_TYPED_BYTES} are allowed")
        if not 1 <= self.limit <= MAX_SUGGESTIONS:
            raise OutOfRangeError("limit", f"{self.limit} is not 1 to {MAX_SUGGESTIONS}")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One completion.

    Attributes:
        highlights: the parts of ``text`` that stand for what was typed, in order.
        document_id: of a title: the first document that has it; else empty.
        documents: how many documents have it.
    """

    text: str
    kind: SuggestionKind
    highlights: Sequence[Span]
    documents: Total
    document_id: str = ""


@dataclass(frozen=True, slots=True)
class _Title:
    """A title that completes what is typed; ``place`` is better the smaller it is.

    Attributes:
        words: of the title, and those with signs once more: other titles have others.
        length: of its words alone, in characters.
    """

    excerpt: Excerpt
    place: int
    words: str
    length: int
    spans: Sequence[Span]
    documents: Total


class Suggesting:
    """Makes the suggestions for one request. Blocks.

    Args:
        is_stop: tells of a word whether no phrase begins or ends with it.
    """

    def __init__(
        self, index: ExcerptIndex, documents: Documents, request: SuggestRequest, is_stop: IsStopWord
    ) -> None:
        self._index, self._documents = index, documents
        self._request, self._is_stop = request, is_stop
        self._typed = parse_typed(request.typed)
        self._folded = " ".join(fold_text(request.typed).split())
        self._signed = list_signed_words(self._folded)
        self._ids: dict[Docno, tuple[str, int]] = {}

    def suggest(self) -> list[Suggestion]:
        """Suggests at most as many as the request says, exact ones before those that differ by a letter.

        Others than exact ones are looked for where those are fewer than half of the limit.
        """
        if not self._typed:
            return []
        chosen: dict[str, Suggestion] = {}
        for tolerant in (False, True):
            found = (self._find_titles(tolerant), self._find_phrases(tolerant))
            titles, phrases = ([s for s in some.items() if s[0] not in chosen] for some in found)
            chosen |= _share(titles, phrases, self._request.limit - len(chosen))
            if 2 * len(chosen) >= self._request.limit:
                break
        return list(chosen.values())

    def _find_titles(self, tolerant: bool) -> dict[str, Suggestion]:
        if SuggestionKind.TITLE not in self._request.kinds:
            return {}
        titles: dict[str, _Title] = {}
        for begins in (False,) if tolerant else (True, False):
            query = ExcerptQuery(self._typed, in_titles=True, begins=begins, tolerant=tolerant)
            titles |= {t.words: t for t in self._read_titles(query) if t.words not in titles}
            if sum(t.place == 0 for t in titles.values()) >= self._request.limit:
                break
        best = sorted(titles.values(), key=self._rank_title)
        return {
            title.words: Suggestion(
                title.excerpt.title,
                SuggestionKind.TITLE,
                join_spans(map_spans(title.excerpt.title, title.spans)),
                title.documents,
                self._ids[title.excerpt.docno][0],
            )
            for title in best[: self._request.limit]
        }

    def _read_titles(self, query: ExcerptQuery) -> list[_Title]:
        for share in TITLES_READ:
            excerpts, complete = self._read(query, share * self._request.limit)
            titles = [t for t in _join_titles(query, excerpts, complete) if self._has_signs(t)]
            if complete or len(titles) >= self._request.limit:
                break
        return titles

    def _has_signs(self, title: _Title) -> bool:
        """Tells whether the title has the words that are typed with signs; the last one may get more of
        them."""
        there = list_signed_words(fold_text(title.excerpt.title))
        return all(
            word in there or (self._folded.endswith(word) and any(one.startswith(word) for one in there))
            for word in self._signed
        )

    def _rank_title(self, title: _Title) -> tuple[int, bool, int, str]:
        as_typed = self._folded in fold_text(title.excerpt.title)
        return title.place, not as_typed, title.length, title.words

    def _find_phrases(self, tolerant: bool) -> dict[str, Suggestion]:
        words = tuple(word for word in self._typed if word.ends or len(word.text) >= PHRASES_FROM)
        if (
            SuggestionKind.PHRASE not in self._request.kinds
            or not words
            or self._signed  # phrases are of letters alone
            or self._is_stop(self._typed[0].text)
        ):
            return {}
        query = ExcerptQuery(words, in_titles=False, tolerant=tolerant)
        excerpts, complete = self._read(query, DRAWN_TOLERANT if tolerant else DRAWN)
        phrases = count_phrases(self._typed, excerpts, self._is_stop, self._request.limit, tolerant)
        return {
            phrase.words: Suggestion(
                phrase.text,
                SuggestionKind.PHRASE,
                join_spans(map_spans(phrase.text, _cover(self._typed, find_words(fold_text(phrase.text))))),
                Total(phrase.documents, complete),
            )
            for phrase in phrases
        }

    def _read(self, query: ExcerptQuery, depth: int) -> tuple[list[Excerpt], bool]:
        """Reads documents that the log has in the same version as the index, and tells whether these are all
        that match."""
        found = self._index.find_excerpts(query, depth, self._request.filter)
        unknown = [excerpt.docno for excerpt in found.found if excerpt.docno not in self._ids]
        if unknown:
            self._ids |= dict.fromkeys(unknown, ("", 0)) | dict(self._documents.read_ids(unknown))
        current = [e for e in found.found if self._ids[e.docno][1] == e.version]
        return current, found.total <= depth


def _join_titles(query: ExcerptQuery, excerpts: Sequence[Excerpt], complete: bool) -> list[_Title]:
    """Joins documents of one title, and leaves out what does not complete what is typed."""
    same: dict[tuple[str, ...], list[Excerpt]] = {}
    for excerpt in excerpts:
        folded = fold_text(excerpt.title)
        words = " ".join(list_words(folded)), *list_signed_words(folded)
        same.setdefault(words, []).append(excerpt)
    last = len(next(reversed(same), ("",))[0])  # the shortest come first, so that all shorter ones are there
    titles = []
    for words, alike in same.items():
        first = min(alike, key=lambda e: e.docno)
        if placed := _place_typed(query, fold_text(first.title)):
            total = Total(len(alike), complete or len(words[0]) < last)
            titles.append(_Title(first, placed[0], " ".join(words), len(words[0]), placed[1], total))
    return titles


def _place_typed(query: ExcerptQuery, folded: str) -> tuple[int, list[Span]] | None:
    """Finds the typed words in a title.

    Returns:
        0 if the title begins with them, 1 if they follow one another further on, 2 if they are scattered; and
        where they are. None if one is not there.
    """
    spans = find_words(folded)
    words = [folded[start:end] for start, end in spans]
    count = len(query.words)
    for first in range(len(words) - count + 1):
        if _matches_words(query.words, words[first:], query.tolerant):
            return min(first, 1), _cover(query.words, spans[first:])
    places: list[int] = []
    for typed in query.words:
        place = next(
            (
                n
                for n, word in enumerate(words)
                if n not in places and matches_word(typed, word, query.tolerant)
            ),
            None,
        )
        if place is None:
            return None
        places.append(place)
    return 2, sorted(_cover(query.words, [spans[place] for place in places]))


def _matches_words(typed: Sequence[TypedWord], words: Sequence[str], tolerant: bool) -> bool:
    return all(matches_word(t, word, tolerant) for t, word in zip(typed, words, strict=False))


def _cover(typed: Sequence[TypedWord], spans: Sequence[Span]) -> list[Span]:
    """Lists what of the words at ``spans`` is typed: of the last one perhaps only its beginning."""
    return [
        (start, end if word.ends else min(end, start + len(word.text)))
        for word, (start, end) in zip(typed, spans, strict=False)
    ]


def _share(
    titles: Sequence[tuple[str, Suggestion]], phrases: Sequence[tuple[str, Suggestion]], limit: int
) -> dict[str, Suggestion]:
    """Takes titles, then phrases that are no title; where both abound, half of each."""
    taken = dict(titles[: max(limit - len(phrases), (limit + 1) // 2)])
    others = [phrase for phrase in phrases if phrase[0] not in taken]
    return taken | dict(others[: limit - len(taken)])
