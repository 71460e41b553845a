"""How text becomes words, the same way when it is indexed and when it is searched."""

import unicodedata

import tantivy

from quarry.schema import LANGUAGES

MAX_WORD_BYTES = 255
"""Longer words, in UTF-8 and before stemming, are not indexed and match nothing."""


def analyser_name(language: str) -> str:
    """What the analyser of ``language`` (a key of ``LANGUAGES``, or ``none``) is called in an index."""
    return f"quarry_{language}"


def build_analyser(language: str) -> tantivy.TextAnalyzer:
    """Runs of letters and digits, lowercased, and stemmed unless ``language`` is ``none``.

    Only English is folded to ASCII, since its accents are optional (café, naïve); in other languages they
    part words, and the stemmers read them. No stop words are dropped: BM25 gives them next to no weight, and
    queries made only of them (``The Who``) keep their answers.
    """
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(MAX_WORD_BYTES + 1))
    builder = builder.filter(tantivy.Filter.lowercase())
    if language == "en":
        builder = builder.filter(tantivy.Filter.ascii_fold())
    if language != "none":
        builder = builder.filter(tantivy.Filter.stemmer(LANGUAGES[language]))
    return builder.build()


def composed(text: str) -> str:
    """``text`` in Unicode's form NFC: the tokenizer takes a combining accent for the end of a word."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
