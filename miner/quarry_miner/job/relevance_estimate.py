"""Fits a click model to a collection's feedback, and measures it."""

import math

import numpy as np

from quarry.clicks.evaluation import evaluate, measure_agreement, split_by_session
from quarry.clicks.log import ClickLog
from quarry.clicks.model import Estimates, Examination
from quarry.errors import NoFeedbackError
from quarry.mining.estimate import EstimateSpec, PairRelevance, RankValue, RelevanceReport
from quarry_miner.job.click_learning import choose_click_model


def estimate_relevance(clicks: ClickLog, spec: EstimateSpec) -> RelevanceReport:
    """Estimates come from all sessions; log-likelihood and perplexity from a model fitted without those held
    out; agreement with judgments from all.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    if not clicks.clicked.any():
        raise NoFeedbackError
    model, source = choose_click_model(spec.model, clicks)
    fitted = model.fit(clicks)
    judgments = {query.text: query.judgments for query in spec.judgments}
    agreement, pairs, _ = measure_agreement(judgments, fitted.estimates, clicks)
    learned, held_out = split_by_session(clicks, spec.held_out, spec.seed)
    likelihood, perplexity = math.nan, np.empty(0)
    notes = [*source, *fitted.notes]
    if len(held_out) and learned.clicked.any():
        model, _ = choose_click_model(spec.model, learned)  # what is held out must not tell its curve either
        measured = evaluate(model, model.fit(learned), held_out)
        likelihood, perplexity = measured.log_likelihood, measured.perplexity
        notes.append(f"measured on {measured.sessions:,} held-out sessions")
    elif spec.held_out:
        notes.append("there are too few sessions to hold some out: the model is not measured")
    return RelevanceReport(
        model=spec.model,
        impressions=len(clicks),
        clicks=int(clicks.clicked.sum()),
        simulated=clicks.simulated,
        examination=_list_examination(fitted.examination),
        estimates=_list_most_displayed(clicks, fitted.estimates, spec.max_estimates),
        log_likelihood=None if math.isnan(likelihood) else likelihood,
        perplexity={rank: v for rank, v in enumerate(perplexity.tolist(), start=1) if not math.isnan(v)},
        agreement=None if math.isnan(agreement) else agreement,
        agreement_pairs=pairs,
        notes=tuple(notes),
    )


def _list_examination(found: Examination | None) -> tuple[RankValue, ...]:
    """Lists ranks of which something is known."""
    if found is None:
        return ()
    columns = (found.value, found.lower, found.upper, found.impressions)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(
        RankValue(rank=rank, value=value, lower=lower, upper=upper, impressions=impressions)
        for rank, (value, lower, upper, impressions) in enumerate(rows, start=1)
        if not (math.isnan(value) or math.isnan(lower) or math.isnan(upper))
    )


def _list_most_displayed(clicks: ClickLog, estimates: Estimates, count: int) -> tuple[PairRelevance, ...]:
    order = np.argsort(-estimates.impressions, kind="stable")[:count].tolist()
    return tuple(
        PairRelevance(
            query=clicks.queries[estimates.query[row]],
            document_id=clicks.documents[estimates.document[row]],
            relevance=float(estimates.relevance[row]),
            lower=float(estimates.lower[row]),
            upper=float(estimates.upper[row]),
            impressions=int(estimates.impressions[row]),
            clicks=int(estimates.clicks[row]),
        )
        for row in order
    )
