"""The analysis of text into words, the same way when it is indexed and when it is searched."""

import unicodedata

import tantivy

from quarry.schema import LANGUAGES

MAX_WORD_BYTES = 255
"""Longer words, in UTF-8 and before stemming, are not indexed and match nothing."""

_WITHOUT_STOP_WORDS = frozenset({"ar", "el", "ro", "ta", "tr"})
"""Languages that Tantivy stems and has no list of stop words for."""


def name_analyser(language: str) -> str:
    """Names the analyser of ``language`` (a key of ``LANGUAGES``, or ``none``) in an index."""
    return f"quarry_{language}"


def build_analyser(language: str, stop_words: bool = True) -> tantivy.TextAnalyzer:
    """Builds the analyser of runs of letters and digits, lowercased, and stemmed unless ``language`` is
    ``none``.

    Only English is folded to ASCII, since its accents are optional (café, naïve); in other languages they
    part words, and the stemmers read them. Documents keep their stop words: a query may be made of them.
    """
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(MAX_WORD_BYTES + 1))
    builder = builder.filter(tantivy.Filter.lowercase())
    if language == "en":
        builder = builder.filter(tantivy.Filter.ascii_fold())
    if language != "none":
        if not stop_words and language not in _WITHOUT_STOP_WORDS:
            builder = builder.filter(tantivy.Filter.stopword(LANGUAGES[language]))
        builder = builder.filter(tantivy.Filter.stemmer(LANGUAGES[language]))
    return builder.build()


class QueryAnalyser:
    """The words of a query: stop words are left out, unless it has no others (``The Who``)."""

    def __init__(self, language: str) -> None:
        self._all = build_analyser(language)
        self._telling = build_analyser(language, stop_words=False)

    def split_words(self, text: str) -> list[str]:
        return self._telling.analyze(text) or self._all.analyze(text)


def compose(text: str) -> str:
    """Puts ``text`` in Unicode's form NFC: the tokenizer takes a combining accent for the end of a word."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
