"""The evidence of feedback on a (query, document) pair, by numbers of the corpus."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from quarry.clicks.log import ClickLog
from quarry.clicks.model import Estimates
from quarry.questions import make_question_key
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.coclick import Clicks, CoclickGraph, Int64, find_values
from quarry_miner.examples import Bool, Float32, Int32

UNKNOWN_QUERY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The outcomes of some (query, candidate) pairs; all of shape ``(pairs,)``, as in ``PairCandidates``."""

    shown: Float32
    refusals: Float32
    clicked: Bool
    clicked_near: Bool
    coclick: Float32


class PairEvidence(Protocol):
    """Answers for many pairs at once."""

    def observe(self, texts: list[str], query: Int32, positive: Int32, document: Int32) -> Seen:
        """``texts[query[i]]`` is the query, ``positive[i]`` and ``document[i]`` are numbers in the corpus."""
        ...


class NoEvidence:
    """Knows nothing of any pair."""

    def observe(self, texts: list[str], query: Int32, positive: Int32, document: Int32) -> Seen:
        zero, no = np.zeros(len(document), np.float32), np.zeros(len(document), np.bool_)
        return Seen(zero, zero, no, no, np.full(len(document), np.nan, np.float32))


NO_FEEDBACK = NoEvidence()


class FeedbackEvidence:
    """A click log and the estimates made of it. Documents that the corpus does not know are left out."""

    def __init__(self, log: ClickLog, estimates: Estimates, corpus: Corpus) -> None:
        self._width = len(corpus)
        self._rows = {make_question_key(text): row for row, text in enumerate(log.queries)}
        numbers = np.array([corpus.numbers.get(id, -1) for id in log.documents], np.int64)
        found = numbers[estimates.document]
        keys = estimates.query.astype(np.int64) * self._width + found
        order = np.argsort(keys)
        order = order[found[order] >= 0]
        self._keys: Int64 = keys[order]
        self._shown = estimates.impressions[order].astype(np.float32)
        self._refusals = estimates.refusals[order].astype(np.float32)
        self._clicks = estimates.clicks[order].astype(np.float32)
        self.graph = CoclickGraph(_read_clicks(log, numbers), self._width)

    def observe(self, texts: list[str], query: Int32, positive: Int32, document: Int32) -> Seen:
        rows = np.array([self._rows.get(make_question_key(text), UNKNOWN_QUERY) for text in texts], np.int64)[
            query
        ]
        wanted = rows * self._width + document
        wanted[rows == UNKNOWN_QUERY] = -1
        near = np.zeros(len(document), np.bool_)
        known = rows >= 0
        if known.any():
            near[known] = self.graph.find_near(rows[known].astype(np.int32), document[known])
        return Seen(
            find_values(self._keys, self._shown, wanted),
            find_values(self._keys, self._refusals, wanted),
            find_values(self._keys, self._clicks, wanted) > 0,
            near,
            self.graph.measure_overlap(positive, document),
        )


def _read_clicks(log: ClickLog, numbers: Int64) -> Clicks:
    """Reads the clicks of a log in order of time, then of display."""
    order = np.argsort(log.time_us, kind="stable")
    page, place = np.nonzero(log.clicked[order] & log.shown[order])
    document = numbers[log.document[order][page, place]]
    kept = document >= 0
    page = order[page[kept]]
    return Clicks(log.query[page], log.session[page], document[kept].astype(np.int32))
