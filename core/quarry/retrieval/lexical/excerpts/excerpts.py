"""The beginnings of documents, of which suggestions are made, and how they match, whatever index has them."""

from collections.abc import Iterable, Sequence

from rapidfuzz.distance import OSA

from quarry.retrieval.base import Excerpt, ExcerptQuery, TypedWord
from quarry.retrieval.lexical.folded_words import fold_text, list_words
from quarry.schema import Schema, as_list
from quarry.types import Change, Docno

MAX_TITLE_CHARACTERS = 300
"""Longer titles are not suggested."""
MAX_TEXT_CHARACTERS = 200
"""Of the texts of a document, after its title, in which phrases are looked for."""
TOLERANT_FROM = 4
"""Letters of the shortest word that may be mistyped."""


class ExcerptMaker:
    """Makes the beginnings of documents, of the texts that BM25 searches."""

    def __init__(self, schema: Schema) -> None:
        title = schema.title
        self._title = title.name if title is not None and title.searchable else ""
        self._texts = [field.name for field in schema.searchable if not field.is_title]

    def make_excerpt(self, change: Change) -> Excerpt:
        fields = change.fields or {}
        title = fields.get(self._title, "")
        if not isinstance(title, str):
            title = str(next(iter(as_list(title)), ""))
        title = title.strip()
        texts: list[str] = []
        left = MAX_TEXT_CHARACTERS
        for value in (v for name in self._texts if name in fields for v in as_list(fields[name])):
            texts.append(_cut_text(value, left))
            left -= len(value)
            if left <= 0:
                break
        return Excerpt(
            change.docno, change.version, title if len(title) <= MAX_TITLE_CHARACTERS else "", tuple(texts)
        )


def _cut_text(text: str, characters: int) -> str:
    """Takes the first ``characters``, without the half of a word."""
    if len(text) <= characters:
        return text
    return text[: max(0, text.rfind(" ", 0, characters + 1))]


def compute_title_length(title_words: Sequence[str]) -> int:
    """Computes the length by which titles are ordered: titles of the same words have the same."""
    return len(" ".join(title_words))


def compute_draw(docno: Docno) -> int:
    """Computes the place of a document in an order that spreads neighbours, over 0 to 2**32."""
    return (docno * 2_654_435_761) % 2**32  # by the golden ratio: Knuth, The Art of Computer Programming 6.4


def order_titles(excerpts: Iterable[Excerpt]) -> list[Excerpt]:
    """Puts the shortest first."""
    return sorted(excerpts, key=lambda e: (compute_title_length(list_words(fold_text(e.title))), e.docno))


def matches_excerpt(query: ExcerptQuery, excerpt: Excerpt) -> bool:
    """Tells whether the beginning of a document has what is looked for."""
    title = list_words(fold_text(excerpt.title))
    if query.in_titles:
        begins = not query.begins or (bool(title) and matches_word(query.words[0], title[0], query.tolerant))
        return begins and _has_all(query, title)
    return _has_all(query, [*title, *(w for text in excerpt.texts for w in list_words(fold_text(text)))])


def _has_all(query: ExcerptQuery, words: Sequence[str]) -> bool:
    return all(any(matches_word(typed, word, query.tolerant) for word in words) for typed in query.words)


def matches_word(typed: TypedWord, word: str, tolerant: bool) -> bool:
    """Tells whether ``word`` is what is typed, or begins so."""
    if word == typed.text or (not typed.ends and word.startswith(typed.text)):
        return True
    length = len(typed.text)
    if not tolerant or length < TOLERANT_FROM:
        return False
    if typed.ends:
        return abs(len(word) - length) < 2 and OSA.distance(typed.text, word, score_cutoff=1) < 2
    beginnings = {word[:size] for size in (length - 1, length, length + 1)}
    return any(OSA.distance(typed.text, beginning, score_cutoff=1) < 2 for beginning in beginnings)
