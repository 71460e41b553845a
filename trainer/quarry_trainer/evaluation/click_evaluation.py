"""Compares a re-ranker with what serves by held-out clicks, where there are no judgments."""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from quarry.clicks.log import Bool, ClickLog
from quarry.questions import make_question_key
from quarry.training.spec import EvaluationReport, Subject
from quarry_trainer.evaluation.examination import Explored
from quarry_trainer.evaluation.off_policy import OffPolicy, OffPolicyBasis, estimate
from quarry_trainer.evaluation.resampling import UNKNOWN
from quarry_trainer.evaluation.searches import find_latest_pages, find_pages_for
from quarry_trainer.evaluation.training_gate import (
    DEFAULT_POLICY,
    ClickEvidence,
    TrainingGatePolicy,
    choose_level,
    judge_clicks,
    list_cautions,
)
from quarry_trainer.measures import Orders

HELD_OUT, HELD_OUT_OF_QUERIES = 0.3, 0.5
"""Share of the searches, the latest ones, whose clicks decide: of all, and of queries that were held out."""
MAX_QUERIES = 500
"""Held-out queries that are searched again and scored: some minutes of one processor for two models."""

NOTHING = OffPolicy(OffPolicyBasis(0, 0.0, 0))

OrdersOf = Callable[[Mapping[str, str]], tuple[Orders, Orders]]
"""Orders by candidate and by what it is compared with, of queries given as texts by name."""


def evaluate_clicks(
    log: ClickLog,
    orders_of: OrdersOf,
    base_name: Subject,
    *,
    earlier_decisions: int = 0,
    seed: int = 0,
    compared_with: str = "",
    queries: Collection[str] | None = None,
    unseen: Collection[str] = (),
    policy: TrainingGatePolicy = DEFAULT_POLICY,
) -> EvaluationReport:
    """Estimates both orders' worth on searches that are held out, and judges the candidate.

    Nothing is ranked where the log itself is too little to tell.

    Args:
        log: all feedback that counts.
        base_name: ``serving`` or ``fused``: what the candidate is compared with.
        earlier_decisions: verdicts that the collection's held-out clicks have given before.
        seed: of the queries that are drawn, and of the bootstrap.
        queries: held out by query: the later searches for these, the earlier ones say how attractive their
            documents are; None: held out by time, the latest searches for all.
        unseen: those whose documents training did not see.
    """
    held_out = find_latest_pages(log, HELD_OUT)
    if queries is not None:
        held_out = find_pages_for(log, queries) & find_latest_pages(log, HELD_OUT_OF_QUERIES)
    names = _draw(log, held_out, seed)
    wanted = np.array([name in names for name in log.queries], bool)
    found = OffPolicy(
        OffPolicyBasis.from_displays(log, held_out & wanted[log.query], Explored.from_displays(log))
    )
    of_unseen = NOTHING
    verdict, advice = judge_clicks(_read_best(found.basis), earlier_decisions, policy)
    changed = True
    if verdict not in ("BAD_DATA", "INSUFFICIENT_DATA"):
        candidate, base = orders_of(names)
        changed = any(candidate[name] != base[name] for name in names)
        found = estimate(log, held_out, candidate, base, base_name, seed)
        unknown = {make_question_key(query) for query in unseen} & names.keys()
        of_unseen = estimate(
            log, held_out, {name: candidate[name] for name in unknown}, base, base_name, seed
        )
        verdict, advice = judge_clicks(_make_evidence(found, of_unseen, changed), earlier_decisions, policy)
    return EvaluationReport(
        verdict=verdict,
        advice=advice,
        cautions=list_cautions(verdict, of_unseen.basis.queries, policy),
        off_policy=found.estimates,
        source="clicks",
        queries=found.basis.queries,
        compared_with=compared_with,
        details=_make_details(log, held_out, found, of_unseen, earlier_decisions),
    )


def _draw(log: ClickLog, held_out: Bool, seed: int) -> dict[str, str]:
    """Draws texts of at most ``MAX_QUERIES`` held-out queries by name, drawn by a hash."""

    def hash_name(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()

    text = {log.queries[number]: log.texts[number] for number in set(log.query[held_out].tolist())}
    return {name: text[name] for name in sorted(text, key=hash_name)[:MAX_QUERIES]}


def _read_best(basis: OffPolicyBasis) -> ClickEvidence:
    """Reads what the gate would see if the rankings left nothing to be desired."""
    return ClickEvidence(
        basis.queries, basis.owner_share, basis.explored_clicks, math.inf, 1.0, UNKNOWN, UNKNOWN
    )


def _make_evidence(found: OffPolicy, of_unseen: OffPolicy, changed: bool) -> ClickEvidence:
    basis = found.basis
    return ClickEvidence(
        basis.queries,
        basis.owner_share,
        basis.explored_clicks,
        found.effective_sample,
        found.support,
        found.doubly_robust,
        found.snips,
        of_unseen.basis.queries,
        of_unseen.doubly_robust,
        of_unseen.snips,
        changed,
    )


def _make_details(
    log: ClickLog, held_out: Bool, found: OffPolicy, of_unseen: OffPolicy, earlier_decisions: int
) -> dict[str, object]:
    searches = log.first_pages
    span = log.time_us[held_out & searches]
    return {
        "decides": {"level": choose_level(earlier_decisions), "earlier_decisions": earlier_decisions},
        "held_out_searches": len(span),
        "held_out_start_us": int(span.min()) if len(span) else None,
        "searches": int(searches.sum()),
        "owner_share": found.basis.owner_share,
        "explored_clicks": found.basis.explored_clicks,
        "examination": list(found.examination),
        "simulated": log.simulated,
        "unseen_queries": of_unseen.basis.queries,
        "unseen": [one.model_dump() for one in of_unseen.estimates],
    }
