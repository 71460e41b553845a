"""The words of a text that a query finds, for whoever marks them."""

import functools

from quarry.retrieval.lexical.analysis import build_surface_cutter, list_surfaces
from quarry.retrieval.lexical.cutting import TextCutter, Word
from quarry.retrieval.lexical.near_words import compute_distance
from quarry.retrieval.text_query import Occurrence, TermKind, TextQuery
from quarry.schema import Field


def list_matched_words(query: TextQuery, field: Field, text: str) -> list[str]:
    """Lists what of ``query`` is to be marked in ``text``, a value of ``field``.

    These are the words and phrases that the query looks for, synonyms included, as they are typed: find them
    as BM25 compares words. With them come the words of the text that its prefixes and near spellings find, as
    the text has them. What is excluded is not among them.

    Args:
        query: as ``LexicalIndex.settle`` leaves it.
    """
    words: dict[str, None] = {}
    beginnings: list[str] = []
    near: list[tuple[str, int]] = []
    cutter = _get_cutter(field.language)
    for term in query.terms:
        is_elsewhere = term.field not in ("", field.name) or not term.is_for(field.language)
        if term.occurs is Occurrence.EXCLUDED or is_elsewhere:
            continue
        surfaces = [s for _, s in _cut(cutter, term.text)]
        if term.kind is TermKind.PREFIX and surfaces:
            words.update(dict.fromkeys(surface for surface in surfaces[:-1]))
            beginnings.append(surfaces[-1])
        elif term.kind is TermKind.FUZZY and surfaces:
            near += [(surface, term.distance) for surface in surfaces]
        else:
            words.update(dict.fromkeys((term.text, *term.others)))
    if beginnings or near:
        for written, surface in dict.fromkeys(_cut(cutter, text)):
            if any(map(surface.startswith, beginnings)) or any(_is_near(surface, *one) for one in near):
                words[written] = None
    return list(words)


def needs_text(query: TextQuery) -> bool:
    """Tells whether ``list_matched_words`` reads the text: it does for prefixes and near spellings."""
    kinds = {term.kind for term in query.terms if term.occurs is not Occurrence.EXCLUDED}
    return not kinds.isdisjoint((TermKind.PREFIX, TermKind.FUZZY))


def _is_near(surface: str, word: str, distance: int) -> bool:
    return abs(len(surface) - len(word)) <= distance and compute_distance(surface, word) <= distance


def _cut(cutter: TextCutter, text: str) -> list[tuple[str, str]]:
    """Cuts a text into its words: as it has them, and as the index does."""
    normal = cutter.normalize(text)
    parts = (part for part in cutter.cut(normal) if isinstance(part, Word))
    return [(normal[part.start : part.end], list_surfaces(part)[0]) for part in parts]


@functools.cache
def _get_cutter(language: str) -> TextCutter:
    return build_surface_cutter(language)
