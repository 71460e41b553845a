"""Spellings of one text: characters that mean the same become the same, and accents can be left out."""

import functools
import re
import unicodedata

import tantivy

_INVISIBLE = re.compile("[\u00ad\u200e\u200f\u2060\ufe00-\ufe0f\ufeff]")
"""Soft hyphens, marks of direction, word joiners, variation selectors and byte order marks."""
_NEVER_LETTERS = re.compile("[\u2120\u2122]")
"""The signs SM and TM, which form NFKC would join to the word before them."""

_LATIN = (range(0xC0, 0x250), range(0x1E00, 0x1F00), range(0x2C60, 0x2C80), range(0xA720, 0xA800))
_OTHER_SCRIPTS = (range(0x370, 0x530), range(0x620, 0x700), range(0x1F00, 0x2000))
"""Greek, Cyrillic and Arabic."""
_MARKS = (
    *(range(0x300, 0x370), range(0x20D0, 0x2100)),  # combining marks of all scripts
    *(range(0x591, 0x5BE), range(0x5BF, 0x5C0), range(0x5C1, 0x5C3), range(0x5C4, 0x5C6)),  # Hebrew points
    *(range(0x640, 0x641), range(0x64B, 0x660), range(0x670, 0x671)),  # Arabic tatweel and vowels
)
_LETTERS_OF_THEIR_OWN = frozenset("йЙ")
"""They have a mark in Unicode's decomposition, but nobody leaves it out."""

_UMLAUTS = {"ä": "ae", "ö": "oe", "ü": "ue"}
_NORDIC = {"ä": "ae", "ö": "oe", "ø": "oe", "å": "aa"}
_TWO_LETTERS = {
    "de": _UMLAUTS,
    "da": _NORDIC,
    "no": _NORDIC,
    "sv": _NORDIC,
    "none": {**_UMLAUTS, **_NORDIC},
}
"""What people type in place of a letter, by language."""


def normalize_text(text: str, language: str) -> str:
    """Puts ``text`` in Unicode's form NFKC, which has one spelling of what looks or means the same.

    Invisible characters inside of words go, and Turkish capitals become what they are in small.
    """
    if language == "tr":
        text = text.replace("I", "ı")
    if text.isascii():
        return text
    text = _NEVER_LETTERS.sub(" ", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFKC", text).replace("İ", "i")  # in small, it would have a mark of its own


@functools.cache
def list_folds(language: str) -> tuple[dict[int, str | None], ...]:
    """Lists tables for ``str.translate``, one for each way to write a text without accents.

    The first leaves them out; that of some languages after it writes two letters for one.
    """
    plain = _fold_latin() | _fold_other_scripts()
    pairs = _TWO_LETTERS.get(language)
    if pairs is None:
        return (plain,)
    capitals = {key.upper(): value.capitalize() for key, value in pairs.items()}
    return plain, plain | {ord(key): value for key, value in (pairs | capitals).items()}


@functools.cache
def _fold_latin() -> dict[int, str | None]:
    """Returns the letters of the engine's filter, which English has in its analyser."""
    letters = [chr(n) for codes in _LATIN for n in codes if chr(n).isalpha()]
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    folded = builder.filter(tantivy.Filter.ascii_fold()).build().analyze(" ".join(letters))
    pairs = zip(letters, folded, strict=True)
    return {ord(letter): plain for letter, plain in pairs if plain != letter and plain.isalpha()}


@functools.cache
def _fold_other_scripts() -> dict[int, str | None]:
    folds: dict[int, str | None] = {n: None for codes in _MARKS for n in codes}
    for letter in (chr(n) for codes in _OTHER_SCRIPTS for n in codes):
        base, *marks = list(unicodedata.normalize("NFD", letter))
        if marks and base.isalpha() and letter not in _LETTERS_OF_THEIR_OWN:
            folds[ord(letter)] = base
    return folds


def list_english_folds() -> dict[int, str | None]:
    """Returns what English folds beside Latin letters, which its analyser folds."""
    return _fold_other_scripts()
