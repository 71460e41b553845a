"""The words of a query as they are looked for: without stop words, and with synonyms beside what they stand
for."""

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from quarry.retrieval.lexical.analysis import QueryAnalyser, build_surface_cutter, list_surfaces
from quarry.retrieval.lexical.cutting import Run, Word
from quarry.retrieval.text_query import Occurrence, Term, TermKind, TextQuery
from quarry.schema import Schema
from quarry.vocabulary import SynonymRule, Vocabulary

MAX_EXPANDED = 64
"""Words and phrases of one text whose synonyms are looked for; the first ones are taken."""

Key = tuple[str, ...]
"""A phrase as an analyser leaves its words."""
Languages = tuple[str, ...]


def arrange_terms(query: TextQuery, schema: Schema) -> TextQuery:
    """Arranges the words of a query as they are looked for.

    The optional words without a mark are one text, wherever they stand. Stop words are left out of it, those
    of the language and those of the query's vocabulary, unless the query looks for nothing else. Words that
    are required or optional are looked for by their synonyms, too.

    Phrases, prefixes, near spellings and what is excluded stay as they are.
    """
    plain = [term for term in query.terms if term == Term(term.text)]
    is_plain = len(plain) in (0, len(query.terms))
    if not schema.searchable or (query.vocabulary is None and is_plain):
        return query
    languages = tuple(dict.fromkeys(field.language for field in schema.searchable))
    reader = _find_reader(query.vocabulary or _NO_VOCABULARY, languages)
    beside = any(term.occurs is not Occurrence.EXCLUDED and term not in plain for term in query.terms)
    terms: list[Term] = []
    for term in query.terms:
        if plain and term is plain[0]:
            terms += reader.read_words(Term(" ".join(one.text for one in plain)), beside)
        elif term.is_optional_words:
            terms += () if term in plain else reader.read_words(term)
        elif term.kind is TermKind.WORDS and term.occurs is Occurrence.REQUIRED:
            terms.append(replace(term, others=reader.find_others(term.text)))
        else:
            terms.append(term)
    return replace(query, terms=tuple(dict.fromkeys(terms)))  # a word counts once, as in plain text


class _VocabularyReader:
    """Finds stop words and synonyms in texts: in any language of the schema, whatever their endings are."""

    def __init__(self, languages: Languages, vocabulary: Vocabulary) -> None:
        self._languages = languages
        self._analysers = [QueryAnalyser(language) for language in languages]
        self._surfaces = [build_surface_cutter(language) for language in languages]
        self._rules: dict[Key, list[tuple[SynonymRule, str]]] = {}
        for rule in vocabulary.synonyms:
            for phrase in rule.phrases:
                for key in self._make_keys(phrase):
                    self._rules.setdefault(key, []).append((rule, phrase))
        self._longest = max(map(len, self._rules), default=0)
        self._stop_words = {
            surface
            for word in vocabulary.stop_words
            for surfaces in self._cut_surfaces(word)
            for surface in surfaces
        }

    def find_others(self, text: str) -> tuple[str, ...]:
        """Finds the synonyms of the whole ``text``."""
        return self._list_others(self._make_keys(text))

    def read_words(self, term: Term, beside: bool = False) -> Iterator[Term]:
        """Reads the words of a text: those with synonyms, longest phrases first, and all others as one.

        Args:
            beside: the query looks for another term, too, so that stop words need not be looked for.
        """
        text = self._analysers[0].normalize(term.text)
        cuts = self._cut_all(text)
        stops = [bool(self._stop_words.intersection(surfaces)) for surfaces in self._cut_surfaces(text)]
        rest: list[str] = []
        stopped: list[str] = []
        found = place = 0
        while place < len(cuts[0]):
            length, others = self._find_longest(cuts, place) if found < MAX_EXPANDED else (0, ())
            words = text[cuts[0][place].start : cuts[0][place + max(length, 1) - 1].end]
            if others:
                found += 1
                yield replace(term, text=words, others=others)
            else:
                (stopped if stops[place] else rest).append(words)
            place += max(length, 1)
        left = " ".join(rest) if found or stopped else term.text
        yield from self._keep_content_words(term, left, "" if beside or found else " ".join(stopped) or left)

    def _keep_content_words(self, term: Term, text: str, instead: str) -> Iterator[Term]:
        """Keeps ``text`` for the languages in which it has more than stop words, and ``instead`` for the
        others."""
        kept: dict[str, list[str]] = {}
        for language, analyser in zip(self._languages, self._analysers, strict=True):
            has_content_words = analyser.content_cutter.cut(analyser.normalize(text))
            kept.setdefault(text if has_content_words else instead, []).append(language)
        for left, languages in kept.items():
            if left:
                is_all = len(languages) == len(self._languages)
                yield replace(term, text=left, languages=() if is_all else tuple(languages))

    def _find_longest(self, cuts: Sequence[Sequence[Word | Run]], place: int) -> tuple[int, tuple[str, ...]]:
        for length in range(min(self._longest, len(cuts[0]) - place), 0, -1):
            others = self._list_others(_make_key(cut[place : place + length]) for cut in cuts)
            if others:
                return length, others
        return 0, ()

    def _list_others(self, keys: Iterable[Key]) -> tuple[str, ...]:
        found = (found for key in keys for found in self._rules.get(key, ()))
        return tuple(dict.fromkeys(other for rule, phrase in found for other in rule.list_others(phrase)))

    def _make_keys(self, phrase: str) -> set[Key]:
        return {_make_key(analyser.cut_whole(phrase)) for analyser in self._analysers} - {()}

    def _cut_all(self, text: str) -> list[list[Word | Run]]:
        """Cuts a text in each language, as far as that makes the same parts."""
        cuts = [analyser.cut_whole(text) for analyser in self._analysers]
        return [cut for cut in cuts if len(cut) == len(cuts[0])]

    def _cut_surfaces(self, text: str) -> list[tuple[str, ...]]:
        cutter = self._surfaces[0]
        return [list_surfaces(part) or _make_key([part]) for part in cutter.cut(cutter.normalize(text))]


def _make_key(parts: Sequence[Word | Run]) -> Key:
    return tuple(part.text if isinstance(part, Word) else "".join(part.characters) for part in parts)


class _Readers:
    """The readers of one vocabulary, by languages.

    Each is made once, and whoever needs it meanwhile waits: that of a large vocabulary takes seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_languages: dict[Languages, _VocabularyReader] = {}

    def find(self, vocabulary: Vocabulary, languages: Languages) -> _VocabularyReader:
        with self._lock:
            if languages not in self._by_languages:
                self._by_languages[languages] = _VocabularyReader(languages, vocabulary)
            return self._by_languages[languages]


_NO_VOCABULARY = Vocabulary()
_LOCK = threading.Lock()
_READERS: weakref.WeakKeyDictionary[Vocabulary, _Readers] = weakref.WeakKeyDictionary()
"""Readers go with their vocabulary, so none may hold it."""


def _find_reader(vocabulary: Vocabulary, languages: Languages) -> _VocabularyReader:
    with _LOCK:
        readers = _READERS.setdefault(vocabulary, _Readers())
    return readers.find(vocabulary, languages)
