"""Queries made of documents alone: what stands above a text is asked for, and the text answers.

Titles, headings and first sentences as queries are an old way to begin without judgments (the inverse cloze
task: Lee, Chang and Toutanova, ACL 2019; titles: MacAvaney et al., SIGIR 2019). The query is taken out of the
passage, or finding it there would be all that is learned.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quarry.documents.passages import SourceText
from quarry.questions import make_question_key

WORDS = (3, 24)
"""Of a query; a shorter one names nothing, a longer one is no heading."""
HEADING_WORDS = 12
LEAST_PASSAGE_WORDS = 15
PASSAGE_CHARACTERS = 1_200
"""What is read of a text: more than a passage has."""
HEADINGS_EACH = 4
"""Of one document, at most."""
MOST_USED = 2
"""Documents that may have the same heading: `See also` asks for nothing."""
_ENDS = (".", "!", "?", ":", ";", ",")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class PseudoQuery:
    """A query that was made of a document.

    Attributes:
        document: whose text answers it.
        passage: that text, the query taken out.
    """

    text: str
    document: str
    passage: str


def make_pseudo_queries(
    documents: Iterable[tuple[str, SourceText]], most: int, seed: int
) -> list[PseudoQuery]:
    """Makes at most so many, drawn at random, in random order.

    Without those that several documents answer.
    """
    found = [query for id, source in documents for query in _make_document_queries(id, source)]
    used = Counter(make_question_key(query.text) for query in found)
    telling = [query for query in found if used[make_question_key(query.text)] <= MOST_USED]
    random.Random(seed).shuffle(telling)
    return telling[:most]


def drop_title(passage: str, title: str) -> str:
    """Drops from a passage the title that stands in front of each."""
    return passage.removeprefix(title).lstrip() if title else passage


def _make_document_queries(id: str, source: SourceText) -> Iterator[PseudoQuery]:
    lines = [line.strip() for line in source.text.splitlines() if line.strip()]
    made = [(source.title.strip(), " ".join(lines)), *_find_headings(lines), *_find_first_sentence(lines)]
    for text, passage in made:
        low, high = WORDS
        if low <= len(text.split()) <= high and len(passage.split()) >= LEAST_PASSAGE_WORDS:
            yield PseudoQuery(text, id, passage[:PASSAGE_CHARACTERS])


def _find_headings(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Finds short lines that end no sentence, with what follows up to the next one."""
    places = [n for n, line in enumerate(lines) if _is_heading(line)]
    ends = [*places, len(lines)][1:]
    parts = [
        (lines[start].lstrip("#").strip(), " ".join(lines[start + 1 : end]))
        for start, end in zip(places, ends, strict=True)
    ]
    return [part for part in parts if len(part[1].split()) >= LEAST_PASSAGE_WORDS][:HEADINGS_EACH]


def _is_heading(line: str) -> bool:
    return WORDS[0] <= len(line.lstrip("#").split()) <= HEADING_WORDS and not line.endswith(_ENDS)


def _find_first_sentence(lines: Sequence[str]) -> list[tuple[str, str]]:
    first, *rest = _SENTENCE.split(" ".join(lines)[: 2 * PASSAGE_CHARACTERS], maxsplit=1)
    return [(first.rstrip("."), rest[0])] if rest else []
