"""The analysis of text into words in Tantivy, the same way when it is indexed and when it is searched."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import tantivy
from tantivy import PreTokenizedString, Token

from quarry.retrieval.lexical.cutting import RUNS_AND_WORDS, Run, Split, TextCutter, Word
from quarry.schema import LANGUAGES

VERSION = 3
"""Raise it when texts are analysed into other words than before.

Quarry builds an index of another version anew. Version 1 had ordinary words only. Version 2 added spellings
without accents, scripts without spaces, and symbols. Version 3 added an index of each field by itself, and
one of its words without stemming.
"""

MAX_WORD_BYTES = 255
"""Longer words, in UTF-8 and before stemming, are not indexed and match nothing."""

_WITHOUT_STOP_WORDS = frozenset({"ar", "el", "ro", "ta", "tr"})
"""Languages that Tantivy stems and has no list of stop words for."""


def name_analyser(language: str, stems: bool = True) -> str:
    """Names the analyser of ``language`` in an index, and the version of the whole analysis."""
    return f"quarry{VERSION}_{language}" if stems else f"quarry{VERSION}_{language}_surface"


def read_version(folder: Path) -> int | None:
    """Reads by which version of the analysis the index in ``folder`` was made; None if there is none."""
    path = folder / "meta.json"
    described = path.read_text(errors="replace") if path.exists() else ""
    found = re.search(r'"tokenizer":\s*"quarry(\d*)_', described)
    return int(found[1] or 1) if found else None


@functools.cache
def build_analyser(
    language: str, stop_words: bool = True, whole: bool = False, stems: bool = True
) -> tantivy.TextAnalyzer:
    """Builds the analyser of runs of letters and digits, lowercased, and stemmed if the language has a
    stemmer.

    Only English is folded to ASCII here, since its accents are optional (café, naïve); in other languages
    they part words, and the stemmers read them. Documents keep their stop words: a query may be made of them.

    Args:
        whole: takes all of a text for one word.
        stems: whether it stems where the language has a stemmer.
    """
    tokenizer = tantivy.Tokenizer.raw() if whole else tantivy.Tokenizer.simple()
    builder = tantivy.TextAnalyzerBuilder(tokenizer)
    builder = builder.filter(tantivy.Filter.remove_long(MAX_WORD_BYTES + 1))
    builder = builder.filter(tantivy.Filter.lowercase())
    if language == "en":
        builder = builder.filter(tantivy.Filter.ascii_fold())
    if language in LANGUAGES:
        if not stop_words and language not in _WITHOUT_STOP_WORDS:
            builder = builder.filter(tantivy.Filter.stopword(LANGUAGES[language]))
        if stems:
            builder = builder.filter(tantivy.Filter.stemmer(LANGUAGES[language]))
    return builder.build()


@functools.cache
def build_stop_test(languages: frozenset[str]) -> Callable[[str], bool]:
    """Builds what tells whether a word in small letters is a stop word of one of these languages.

    Languages without a list have none.
    """
    analysers = []
    for language in sorted(languages & LANGUAGES.keys() - _WITHOUT_STOP_WORDS):
        builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.raw())
        analysers.append(builder.filter(tantivy.Filter.stopword(LANGUAGES[language])).build())
    return lambda word: any(not analyser.analyze(word) for analyser in analysers)


@functools.cache
def build_cutter(language: str, stop_words: bool = True) -> TextCutter:
    """Builds what cuts texts of a language as its analyser does, and scripts and spellings beside."""
    ordinary, whole = (build_analyser(language, stop_words, whole) for whole in (False, True))
    return TextCutter(language, _make_split(ordinary), _make_split(whole))


@functools.cache
def build_surface_cutter(language: str) -> TextCutter:
    """Builds what cuts texts of a language into words as they are written."""
    ordinary, whole = (build_analyser(language, whole=whole, stems=False) for whole in (False, True))
    return TextCutter(language, _make_split(ordinary), _make_split(whole))


def has_long_word(text: str) -> bool:
    """Tells whether the normalised ``text`` has a word that is too long for an index."""
    return len(text.encode()) > MAX_WORD_BYTES and any(
        len(found[0].encode()) > MAX_WORD_BYTES
        for found in RUNS_AND_WORDS.finditer(text)
        if found.lastgroup == "word"
    )


def list_surfaces(part: Word | Run) -> tuple[str, ...]:
    """Lists the surface forms of a word, which are its spellings without accents; none of characters without
    spaces."""
    return (part.forms or (part.text,)) if isinstance(part, Word) else ()


def cut_phrase(cutter: TextCutter, text: str) -> list[Word | Run]:
    """Cuts ``text`` as a document is cut, with its stop words.

    The result is empty if a word is too long for an index.
    """
    text = cutter.normalize(text)
    return [] if has_long_word(text) else cutter.cut(text)


def cut_surfaces(cutter: TextCutter, text: str) -> list[str]:
    """Cuts ``text`` into words, each as ``list_surfaces`` spells it first.

    The result is empty if the text has anything else, or a word that is too long for an index.

    Args:
        cutter: one that stems no words.
    """
    surfaces = [list_surfaces(part) for part in cut_phrase(cutter, text)]
    return [spellings[0] for spellings in surfaces] if all(surfaces) else []


def make_surface_tokens(cutter: TextCutter, text: str) -> PreTokenizedString:
    """Cuts the normalised ``text`` of a document into words as ``list_surfaces`` spells them."""
    tokens = [
        Token(surface, part.position, part.start, part.end)
        for part in cutter.cut(text)
        for surface in list_surfaces(part)
    ]
    return PreTokenizedString("", tokens)


def make_tokens(cutter: TextCutter, text: str) -> PreTokenizedString:
    """Cuts the normalised ``text`` of a document into what the index takes as it is."""
    tokens = [
        Token(term, position, part.start, part.end)
        for part in cutter.cut(text)
        for term, position in part.list_terms()
    ]
    return PreTokenizedString("", tokens)  # the words count, and the text itself is not stored


class QueryAnalyser:
    """The words of a query: stop words are left out, unless it has no others (``The Who``).

    Attributes:
        content_cutter: cuts a normalised text, and leaves stop words out.
    """

    def __init__(self, language: str) -> None:
        self._all = build_cutter(language)
        self.content_cutter = build_cutter(language, stop_words=False)

    def cut(self, text: str) -> list[Word | Run]:
        """Cuts ``text`` into what is looked for."""
        text = self._all.normalize(text)
        return self.content_cutter.cut(text) or self._all.cut(text)

    def normalize(self, text: str) -> str:
        """Puts a text in the form to which the places of its parts refer."""
        return self._all.normalize(text)

    def cut_whole(self, text: str) -> list[Word | Run]:
        """Cuts ``text`` as a document is cut, stop words included."""
        return self._all.cut(self._all.normalize(text))


def _make_split(analyser: tantivy.TextAnalyzer) -> Split:
    def split(text: str) -> list[Word]:
        return [
            Word(token.text, token.position, token.char_offset_from, token.char_offset_to)
            for token in analyser.pre_tokenize(text).tokens
        ]

    return split
