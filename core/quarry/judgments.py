"""Judgments of one question under several ids. Where they contradict each other, one rule holds everywhere:
the document counts as relevant, and the contradiction is counted and named."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quarry.questions import make_question_key

SHOWN = 5
SHOWN_CHARACTERS = 80

Disputed = tuple[tuple[str, str], ...]
"""Pairs of a question (``make_question_key``) and a document, sorted."""


class SettledJudgments(NamedTuple):
    """Judgments without contradictions.

    Attributes:
        qrels: grades by query id and document id.
        disputed: what was judged relevant under one id and not relevant under another.
    """

    qrels: dict[str, dict[str, int]]
    disputed: Disputed


def settle_judgments(texts: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]) -> SettledJudgments:
    """Settles what the judgments of one question say of one document: the best grade holds where one is over
    0 and one is not. Grades over 0 that differ stay, and so does what only one id judges.

    Args:
        texts: of the queries, by id; each has judgments.
    """
    keys = {id: make_question_key(text) for id, text in texts.items()}
    lowest: dict[tuple[str, str], int] = {}
    highest: dict[tuple[str, str], int] = {}
    for id, key in keys.items():
        for document, grade in qrels[id].items():
            pair = key, document
            lowest[pair] = min(grade, lowest.get(pair, grade))
            highest[pair] = max(grade, highest.get(pair, grade))
    disputed = {pair for pair, grade in highest.items() if grade > 0 >= lowest[pair]}
    settled = {
        id: {d: highest[key, d] if (key, d) in disputed and grade <= 0 else grade for d, grade in own.items()}
        for id, key, own in ((id, key, qrels[id]) for id, key in keys.items())
    }
    return SettledJudgments(settled, tuple(sorted(disputed)))


def describe_disputed(disputed: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Describes contradictions in one sentence; none where there are none."""
    if not disputed:
        return ()
    is_one = len(disputed) == 1
    named = ", ".join(f"{query[:SHOWN_CHARACTERS]!r} and {id}" for query, id in disputed[:SHOWN])
    return (
        f"{len(disputed):,} {'document is' if is_one else 'documents are'} judged relevant under one id of a "
        f"question and not relevant under another, and count{'s' if is_one else ''} as relevant: {named}",
    )
