"""The search for words that are spelled nearly as one that no document has."""

from collections.abc import Iterable

from rapidfuzz import process
from rapidfuzz.distance import OSA

from quarry.retrieval.text_query import Occurrence, Term

MAX_TYPOS = 32
"""Words of a query that are looked for under near spellings."""

FUZZY_SHARE = 0.5
"""The share of a word's score that a near word gets."""
_OF_EXACT = {Occurrence.REQUIRED: Occurrence.OPTIONAL}
"""A required term that is made exact becomes optional, for the words of a required one have to stand in a
row."""


def choose_distance(word: str) -> int:
    """Chooses how many letters of ``word`` may differ: none of 3, 1 of 4 to 7, 2 of 8 and more."""
    return 0 if len(word) < 4 else 1 if len(word) < 8 else 2


def make_exact(term: Term) -> Term:
    """Turns a FUZZY term whose words documents have into what is looked for: any of these words."""
    return Term(term.text, occurs=_OF_EXACT.get(term.occurs, term.occurs), field=term.field)


def find_near_words(words: Iterable[str], word: str, distance: int) -> list[str]:
    """Finds those of ``words`` that differ from ``word`` in at most ``distance`` letters: replaced, left out,
    added, or swapped with the next one.

    100,000 words take some 10 ms.

    Source: the optimal string alignment distance.
    """
    near = process.extract_iter(word, words, scorer=OSA.distance, score_cutoff=distance)
    return [other for other, _, _ in near]
