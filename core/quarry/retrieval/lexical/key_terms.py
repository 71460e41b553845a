"""The key terms of a text: words that are frequent in it, and rare elsewhere."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from quarry.retrieval.lexical.cutting import Run, TextCutter, Word
from quarry.retrieval.lexical.text_fields import TextField
from quarry.schema import as_list
from quarry.types import Fields

MOST_CHARACTERS = 100_000
"""Of a document's text in one language, the first ones are read."""
LEAST_DOCUMENTS = 2
"""Documents that have a word, at least: what one has alone finds no other."""

CountDocuments = Callable[[str, str], int]
"""Counts the documents that have a term in a field."""


def find_key_terms(
    fields: Fields,
    texts: Iterable[tuple[TextField, TextCutter]],
    count_documents: CountDocuments,
    documents: int,
    most: int,
) -> list[str]:
    """Finds the terms of a document with the highest ``tf * idf``, best first, each as the document has it.

    Args:
        texts: fields of the index that hold all text together, and what cuts it.
        documents: how many there are in all.
    """
    found: list[tuple[float, str]] = []
    for field, cutter in texts:
        values = [value for name in field.sources for value in as_list(fields.get(name))]
        text = cutter.normalize("\n".join(map(str, values))[:MOST_CHARACTERS])
        for term, (spelling, frequency) in _count_terms(cutter.cut(text), text).items():
            having = count_documents(field.name, term)
            if having >= LEAST_DOCUMENTS:
                idf = math.log1p((documents - having + 0.5) / (having + 0.5))
                found.append((-frequency * idf, spelling))
    return list(dict.fromkeys(spelling for _, spelling in sorted(found)))[:most]


def _count_terms(parts: Sequence[Word | Run], text: str) -> dict[str, tuple[str, int]]:
    """Counts each term, and says how the text spells it first."""
    spellings: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for part in parts:
        if isinstance(part, Word):
            pairs = [(part.text, text[part.start : part.end])]
        else:
            pairs = [(pair, pair) for pair in part.pairs or part.characters]
        for term, spelling in pairs:
            spellings.setdefault(term, spelling)
            counts[term] += 1
    return {term: (spellings[term], count) for term, count in counts.items()}
