"""The positives that mining starts from: queries and documents from judgments, from clicks, or from both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quarry.clicks.log import Bool, ClickLog
from quarry.clicks.model import Estimates
from quarry.judgments import settle_judgments
from quarry.mining.spec import CLICK_ID_PREFIX, JudgedQuery
from quarry.questions import make_question_key
from quarry_miner.corpus import Corpus
from quarry_miner.examples import MiningQuery, Positive

JUDGED, CLICKED = "judged", "clicked"
SHOWN_UNKNOWN = 10
LEAST_OWNERS = 2
"""Users behind the clicks of a positive, so that nobody makes an example alone."""
FALLBACK_FLOOR = 0.3
"""Of positives where too few pairs tell the noise: over the relevance of an irrelevant hit that users choose
every fifth time, by a lower bound that few clicks do not reach."""


@dataclass(frozen=True, slots=True)
class ClickedDocument:
    """A document that clicks say is relevant.

    Attributes:
        query: as ``ClickLog`` has it.
        relevance: by the click model, 0 to 1; where the noise is known, times the probability that the pair
            is none of it.
    """

    query: str
    document_id: str
    relevance: float


@dataclass(frozen=True, slots=True)
class Positives:
    """Queries to mine for, and what had to be left out.

    Attributes:
        queries: judged ones as asked, then clicked ones by text; each with at least one positive.
        judged_pairs: (query, positive) pairs from judgments; ``clicked_pairs`` from clicks.
        unknown: judged or clicked documents that the collection does not hold, each once, sorted.
        unknown_pairs: pairs lost to them.
        wordless: judged or clicked documents that have no word, each once, sorted; they are no positives.
        wordless_pairs: pairs lost to them.
        without_positive: judged queries that have none, or none that the collection holds.
        contradicted: pairs that clicks would make positives and that are judged not relevant.
        disputed: (query, document) pairs that are judged relevant under one id of a question and not relevant
            under another, by the question, sorted: they count as relevant.
    """

    queries: tuple[MiningQuery, ...]
    judged_pairs: int
    clicked_pairs: int
    unknown: tuple[str, ...]
    unknown_pairs: int
    without_positive: int
    contradicted: int
    wordless: tuple[str, ...] = ()
    wordless_pairs: int = 0
    disputed: tuple[tuple[str, str], ...] = ()

    @property
    def pairs(self) -> int:
        return self.judged_pairs + self.clicked_pairs


def select_above_floor(log: ClickLog, estimates: Estimates, floor: float) -> list[ClickedDocument]:
    """Selects pairs that were clicked, and whose relevance is at least ``floor`` by the lower end of its
    interval."""
    return select_clicked(log, estimates, estimates.lower >= floor)


def select_clicked(log: ClickLog, estimates: Estimates, chosen: Bool) -> list[ClickedDocument]:
    """Selects those of the ``chosen`` pairs that were clicked; ``chosen`` has the shape of the estimates."""
    found = np.flatnonzero(chosen & (estimates.clicks > 0))
    return [
        ClickedDocument(
            log.queries[estimates.query[row]],
            log.documents[estimates.document[row]],
            float(estimates.relevance[row]),
        )
        for row in found.tolist()
    ]


def keep_agreed(
    found: Sequence[ClickedDocument], log: ClickLog, least: int = LEAST_OWNERS
) -> list[ClickedDocument]:
    """Keeps the pairs that were clicked by at least ``least`` owners."""
    page, place = np.nonzero(log.clicked & log.shown)
    clicks = np.stack([log.query[page], log.document[page, place], log.owner[page]], axis=1)
    pairs, owners = np.unique(np.unique(clicks, axis=0)[:, :2], axis=0, return_counts=True)
    kept = {(log.queries[q], log.documents[d]) for q, d in pairs[owners >= least].tolist()}
    return [pair for pair in found if (pair.query, pair.document_id) in kept]


def join_positives(
    judged: Sequence[JudgedQuery], clicked: Sequence[ClickedDocument], corpus: Corpus
) -> Positives:
    """Joins positives of both sources. A query is its text: clicks for the text of a judged query are its
    own, and so are the positives of another judged query with its text. None of them becomes its negative.

    A judgment outweighs clicks: 1 is its weight. Clicked documents weigh their relevance over the largest of
    all, so that the best of them weighs as much as a judged one.
    """
    grades: dict[str, dict[str, int]] = {}
    disputed = settle_judgments(
        {query.id: query.text for query in judged}, {query.id: query.judgments for query in judged}
    ).disputed
    for query in judged:
        key = make_question_key(query.text)
        of_text = grades.setdefault(key, {})
        for id, grade in query.judgments.items():
            of_text[id] = max(grade, of_text.get(id, grade))
    by_text: dict[str, list[ClickedDocument]] = {}
    for pair in clicked:
        by_text.setdefault(make_question_key(pair.query), []).append(pair)
    largest = max((pair.relevance for pair in clicked), default=1.0) or 1.0
    joining = _Joining(corpus, largest)
    queries: list[MiningQuery] = []
    for query in judged:
        key = make_question_key(query.text)
        own = [id for id, grade in query.judgments.items() if grade > 0]
        relevant = dict.fromkeys([*own, *(id for id, grade in grades[key].items() if grade > 0)])
        if positives := joining.join(relevant, by_text.get(key, []), grades[key]):
            queries.append(MiningQuery(query.id, query.text, positives))
        else:
            joining.without_positive += 1
    queries += (
        MiningQuery(CLICK_ID_PREFIX + text, text, positives)
        for text in sorted(by_text.keys() - grades.keys())
        if (positives := joining.join([], by_text[text], {}))
    )
    return replace(joining.make_result(queries), disputed=disputed)


class _Joining:
    """Counts what is taken and what is left out."""

    def __init__(self, corpus: Corpus, largest: float) -> None:
        self._corpus, self._largest = corpus, largest
        self._unknown: set[str] = set()
        self._wordless: set[str] = set()
        self._unknown_pairs = self._wordless_pairs = self._contradicted = 0
        self.without_positive = 0

    def join(
        self, relevant: Iterable[str], clicked: Iterable[ClickedDocument], judged: Mapping[str, int]
    ) -> tuple[Positive, ...]:
        found: dict[int, Positive] = {}
        for id in relevant:
            if (number := self._find_number(id)) is not None:
                found[number] = Positive(number, 1.0, JUDGED)
        for pair in clicked:
            if pair.document_id in judged:
                self._contradicted += judged[pair.document_id] <= 0
            elif (number := self._find_number(pair.document_id)) is not None:
                found[number] = Positive(number, max(pair.relevance / self._largest, 1e-3), CLICKED)
        return tuple(found.values())

    def _find_number(self, id: str) -> int | None:
        """Finds the number of a document that can be a positive; others are counted."""
        number = self._corpus.numbers.get(id)
        if number is None:
            self._unknown.add(id)
            self._unknown_pairs += 1
        elif not self._corpus.telling[number]:
            self._wordless.add(id)
            self._wordless_pairs += 1
            return None
        return number

    def make_result(self, queries: Sequence[MiningQuery]) -> Positives:
        sources = [positive.source for query in queries for positive in query.positives]
        return Positives(
            tuple(queries),
            sources.count(JUDGED),
            sources.count(CLICKED),
            tuple(sorted(self._unknown)),
            self._unknown_pairs,
            self.without_positive,
            self._contradicted,
            tuple(sorted(self._wordless)),
            self._wordless_pairs,
        )
