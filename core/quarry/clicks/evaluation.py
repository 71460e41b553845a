"""Two questions of a click model: does it foretell clicks, and does it agree with judges? They differ."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quarry.clicks.log import ClickLog, Float64, Int64
from quarry.clicks.model import ClickModel, Estimates, FittedModel
from quarry.questions import make_question_key

Judgments = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The quality of a model.

    Attributes:
        log_likelihood: mean natural logarithm of the probability given to what happened at a place, given the
            clicks above it; at most 0; NaN if nothing was held out.
        perplexity: float64, shape ``(max_rank,)``: by rank, 2 to the mean of -log2 of the same: 1 is
            perfect, 2 a coin; NaN for ranks without a place.
        places: int64, shape ``(max_rank,)``: held-out places that both rest on.
        sessions: held out.
        agreement: share, in [0, 1], of pairs of documents judged unlike for a query that the estimates order
            as the judges do, ties counted half; NaN if there are none.
        agreement_pairs: how many there are.
        agreement_queries: of how many queries.
    """

    log_likelihood: float
    perplexity: Float64
    places: Int64
    sessions: int
    agreement: float = float("nan")
    agreement_pairs: int = 0
    agreement_queries: int = 0


def split_by_session(log: ClickLog, held_out: float, seed: int) -> tuple[ClickLog, ClickLog]:
    """Splits the pages to learn from, and those of a share of the sessions, drawn at random, to measure with.

    Args:
        held_out: share of the sessions, [0, 1); rounded to the nearest number of sessions.
    """
    sessions = np.unique(log.session)
    drawn = np.random.default_rng(seed).permutation(sessions)[: round(held_out * len(sessions))]
    chosen = np.isin(log.session, drawn)
    return log.select_rows(~chosen), log.select_rows(chosen)


def evaluate(
    model: ClickModel, fitted: FittedModel, held_out: ClickLog, judgments: Judgments | None = None
) -> Evaluation:
    """Measures a model on sessions that it has not seen, and its estimates against judgments.

    Args:
        judgments: grade by document by query text. Only documents that have an estimate count.
    """
    shown = held_out.shown
    rank = held_out.rank[shown] - 1
    places = np.bincount(rank, minlength=held_out.max_rank).astype(np.int64)
    predicted = model.predict_clicks(fitted, held_out)[shown]
    happened = np.log(np.where(held_out.clicked[shown], predicted, 1 - predicted))
    by_rank = np.bincount(rank, happened, held_out.max_rank)
    with np.errstate(invalid="ignore"):
        perplexity = np.exp(-by_rank / np.where(places > 0, places, np.nan))
    agreement, pairs, queries = measure_agreement(judgments or {}, fitted.estimates, held_out)
    return Evaluation(
        log_likelihood=float(happened.mean()) if len(happened) else float("nan"),
        perplexity=perplexity,
        places=places,
        sessions=len(np.unique(held_out.session)),
        agreement=agreement,
        agreement_pairs=pairs,
        agreement_queries=queries,
    )


def measure_agreement(judgments: Judgments, estimates: Estimates, log: ClickLog) -> tuple[float, int, int]:
    """Measures the share of pairs ordered as the judges do, number of pairs, number of queries.

    ``log`` names the queries and documents of ``estimates``. Query texts are compared as
    ``ClickLog.from_pages`` does.
    """
    numbers = {text: number for number, text in enumerate(log.queries)}
    right, pairs, queries = 0.0, 0, 0
    for text, grades in judgments.items():
        number = numbers.get(make_question_key(text), -1)
        low, high = np.searchsorted(estimates.query, [number, number + 1])
        found = [
            (grades[log.documents[document]], float(relevance))
            for document, relevance in zip(
                estimates.document[low:high], estimates.relevance[low:high], strict=True
            )
            if log.documents[document] in grades
        ]
        if not found:
            continue
        grade, relevance = np.array(found).T
        better = grade[:, None] > grade[None]
        difference = (relevance[:, None] - relevance[None])[better]
        right += float(((np.sign(difference) + 1) / 2).sum())
        pairs += int(better.sum())
        queries += bool(better.any())
    return (right / pairs if pairs else float("nan")), pairs, queries
