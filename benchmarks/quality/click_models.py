"""Click models: whether their intervals hold the truth, how fast they are, and how they fare on real clicks.

One JSON line for each result. ``curves``: examination of simulated position-based users, whose curve is
known, over
seeds: RMS relative error, and share of (seed, rank) cells whose 95 % interval holds the truth; and the
position-based model on users who are not position-based. ``speed``: seconds to fit a million pages of ten
hits, and the ratio to one numpy pass that adds up clicks by rank. ``trec``: held-out clicks of the TREC 2014
Session track and agreement with its judges.
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from quarry.clicks.counts import Cells, Places
from quarry.clicks.evaluation import Judgments, evaluate, split_by_session
from quarry.clicks.examination.harvest import harvest_examination
from quarry.clicks.examination.swaps import estimate_from_swaps
from quarry.clicks.fitting.linear import LEAST
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import ClickModel, Examination
from quarry.clicks.models.pbm import PositionBased, estimate_position_based
from quarry.clicks.propensity import choose_examination
from quarry.clicks.registry import CLICK_MODELS
from quarry.clicks.simulation import SimulatedWorld, simulate_log
from quarry.clicks.users import UserBehaviour
from quarry.feedback.types import ObservedPage

TREC = Path(__file__).parents[3] / "shared" / "data" / "trec-session-2014-clicks"
RANKS = 10
UNTRUSTING = UserBehaviour(trust=0.0)
CURVES: Mapping[str, tuple[Callable[[ClickLog], Examination], SimulatedWorld]] = {
    "pbm": (lambda log: estimate_position_based(log)[0], SimulatedWorld()),
    "harvest": (harvest_examination, SimulatedWorld()),
    "swaps": (estimate_from_swaps, SimulatedWorld(rankers=1, swaps=True)),
    "swaps, probabilities unknown": (
        lambda log: estimate_from_swaps(without_probabilities(log)),
        SimulatedWorld(rankers=1, swaps=True),
    ),
    "swaps, 50,000 queries": (estimate_from_swaps, SimulatedWorld(queries=50_000, rankers=1, swaps=True)),
    "harvest, 20,000 queries": (harvest_examination, SimulatedWorld(queries=20_000)),
    "pbm, 20,000 queries": (
        lambda log: estimate_position_based(log)[0],
        SimulatedWorld(queries=20_000),
    ),
}


def without_probabilities(log: ClickLog) -> ClickLog:
    return replace(log, rank_probability=None)


def emit(**result: object) -> None:
    print(json.dumps({"benchmark": "click_models", **result}), flush=True)


def rounded(values: Float64, digits: int = 4) -> list[float | None]:
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]


def seed_error(held: list[NDArray[np.bool_]]) -> float:
    """Of the coverage; the ranks of one seed hit or miss together."""
    by_seed = np.mean(held, axis=1)
    return round(float(np.std(by_seed) / np.sqrt(len(by_seed))), 4)


def all_pairs(log: ClickLog) -> Float64:
    """AllPairs as its paper has it (WSDM 2019), shape ``(max_rank,)``, 1 at rank 1; without intervals.

    Maximizes the sum over ranks k and l of ``c log(theta_k r_kl) + (1 - c) log(1 - theta_k r_kl)``, ``c`` the
    mean click rate at k of pairs displayed at both, one relevance ``r_kl`` for both orders.
    """
    places, ranks = Places.from_log(log), log.max_rank
    cells = Cells.from_contexts(places, places.rank - 1, ranks)
    rate = np.zeros((places.pair_count, ranks))
    rate[cells.pair, cells.context] = cells.clicked / cells.shown
    seen = np.zeros_like(rate)
    seen[cells.pair, cells.context] = 1.0
    both = seen.T @ seen
    clicked = rate.T @ seen
    missed = both - clicked
    np.fill_diagonal(clicked, 0.0)
    np.fill_diagonal(missed, 0.0)
    upper = np.triu_indices(ranks, 1)
    number = np.zeros((ranks, ranks), np.int64)
    number[upper] = np.arange(len(upper[0])) + ranks
    number = number + number.T

    def loss(at: Float64) -> tuple[float, Float64]:
        """Computes the negative log-likelihood and its gradient.

        ``at`` holds logarithms of all theta and r.
        """
        log_p = np.minimum(at[:ranks, None] + at[number], -LEAST)
        np.fill_diagonal(log_p, -1.0)
        rest = -np.expm1(log_p)
        slope = clicked - missed * np.exp(log_p) / rest
        gradient = np.concatenate([slope.sum(axis=1), (slope + slope.T)[upper]])
        return -float((clicked * log_p + missed * np.log(rest)).sum()), -gradient

    start = np.full(ranks + len(upper[0]), -1.0)
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(-20, 0)] * len(start), options={"maxiter": 2_000}
    )
    curve: Float64 = np.exp(found.x[:ranks] - found.x[0])
    return curve


def curves(seeds: int, impressions: int) -> None:
    truth = UNTRUSTING.examine(np.arange(1, RANKS + 1))
    for name, (estimated, world) in CURVES.items():
        errors, held, widths, seconds = [], [], [], 0.0
        for seed in range(seeds):
            log, _ = simulate_log(world, UNTRUSTING, impressions, seed)
            began = time.perf_counter()
            curve = estimated(log)
            seconds += time.perf_counter() - began
            errors.append(curve.value[1:] / truth[1:] - 1)
            held.append((curve.lower[1:] <= truth[1:]) & (truth[1:] <= curve.upper[1:]))
            widths.append((curve.upper[1:] - curve.lower[1:]) / curve.value[1:])
        emit(
            result="curves",
            source=name,
            seeds=seeds,
            impressions=impressions,
            queries=world.queries,
            cells=int(np.size(held)),  # rank 1 is 1 by definition and not counted
            coverage=round(float(np.mean(held)), 4),
            coverage_standard_error=seed_error(held),
            coverage_least_rank=round(float(np.mean(held, axis=0).min()), 4),
            rms_relative_error=round(float(np.sqrt(np.mean(np.square(errors)))), 5),
            mean_relative_error=round(float(np.mean(errors)), 5),
            mean_interval_width=round(float(np.mean(widths)), 5),
            seconds_each=round(seconds / seeds, 3),
        )
    errors = [
        all_pairs(simulate_log(SimulatedWorld(), UNTRUSTING, impressions, seed)[0])[1:] / truth[1:] - 1
        for seed in range(seeds)
    ]
    emit(
        result="curves",
        source="AllPairs as published",
        seeds=seeds,
        impressions=impressions,
        rms_relative_error=round(float(np.sqrt(np.mean(np.square(errors)))), 5),
    )


def trust(seeds: int, impressions: int) -> None:
    """Affine on trusting users: alpha by rank, and what the position-based model makes of them."""
    users = UserBehaviour(trust=0.3)
    ranks = np.arange(1, RANKS + 1)
    alpha = users.examine(ranks) * (1 - users.compute_irrelevant_clicks(ranks))
    truth = alpha / alpha[0]
    for name in ("affine", "pbm"):
        errors, held = [], []
        for seed in range(seeds):
            log, _ = simulate_log(SimulatedWorld(), users, impressions, seed)
            curve = CLICK_MODELS[name].fit(log).examination
            assert curve is not None
            errors.append(curve.value[1:] / truth[1:] - 1)
            held.append((curve.lower[1:] <= truth[1:]) & (truth[1:] <= curve.upper[1:]))
        emit(
            result="trust",
            model=name,
            seeds=seeds,
            impressions=impressions,
            trust=users.trust,
            coverage=round(float(np.mean(held)), 4),
            coverage_standard_error=seed_error(held),
            rms_relative_error=round(float(np.sqrt(np.mean(np.square(errors)))), 5),
            mean_relative_error=round(float(np.mean(errors)), 5),
        )


def misfit(impressions: int) -> None:
    """Each model on each kind of user, held out; agreement is with the true relevance."""
    for users in (UNTRUSTING, UserBehaviour(trust=0.3), UserBehaviour("cascade"), UserBehaviour("dbn")):
        log, relevance = simulate_log(SimulatedWorld(), users, impressions, 0)
        learned, held_out = split_by_session(log, 0.2, 0)
        for name, model in CLICK_MODELS.items():
            fitted = model.fit(learned)
            measured = evaluate(model, fitted, held_out)
            of_pair = relevance[fitted.estimates.document]
            emit(
                result="misfit",
                users=users.model,
                trust=users.trust,
                model=name,
                impressions=impressions,
                log_likelihood=round(measured.log_likelihood, 5),
                perplexity=rounded(measured.perplexity),
                correlation=round(float(np.corrcoef(of_pair, fitted.estimates.relevance)[0, 1]), 4),
                examination=rounded(fitted.examination.value) if fitted.examination else None,
            )


def speed(impressions: int) -> None:
    log, _ = simulate_log(SimulatedWorld(queries=10_000, swaps=True), UNTRUSTING, impressions, 0)

    def one_pass() -> object:
        shown = log.shown
        return np.bincount(log.rank[shown] * 2 + log.clicked[shown], minlength=2 * RANKS)

    def seconds(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    baseline = min(seconds(one_pass) for _ in range(5))
    fits: dict[str, Callable[[], object]] = {
        name: partial(model.fit, log) for name, model in CLICK_MODELS.items()
    }
    fits["swaps"] = lambda: estimate_from_swaps(log)
    fits["harvest"] = lambda: harvest_examination(log)
    for name, fit in fits.items():
        took = seconds(fit)
        emit(
            result="speed",
            model=name,
            impressions=impressions,
            hits=int(log.shown.sum()),
            pairs=len(np.unique(log.document)),
            seconds=round(took, 2),
            baseline_seconds=round(baseline, 4),
            ratio=round(took / baseline, 1),
        )


def trec_pages(folder: Path) -> Iterator[ObservedPage]:
    with gzip.open(folder / "events.jsonl.gz", "rt") as lines:
        for line in lines:
            page = json.loads(line)
            hits = page["results"]
            clicked = {click["doc_id"] for click in page["clicks"]}
            ranks = tuple(hit["rank"] for hit in hits)
            yield ObservedPage(
                search_id=f"{page['session_id']}-{page['interaction']}",
                time_us=0,
                query=page["query"],
                user_id="",
                session_id=page["session_id"],
                ranker="",
                simulated=False,
                documents=tuple(hit["doc_id"] for hit in hits),
                contents=("",) * len(hits),
                ranks=ranks,
                displayed=(True,) * len(hits),
                rendered=False,
                clicked=tuple(hit["doc_id"] in clicked for hit in hits),
                refused=(False,) * len(hits),
                ranks_before=ranks,
                rank_probabilities=(1.0,) * len(hits),
            )


def trec_judgments(folder: Path) -> Judgments:
    lines = (folder / "queries.jsonl").read_text().splitlines()
    texts = {query["_id"]: query["text"] for query in map(json.loads, lines)}
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged.setdefault(texts[query], {})[document] = int(grade)
    return judged


def trec(splits: int) -> None:
    if not (TREC / "events.jsonl.gz").exists():
        emit(result="trec", skipped=f"{TREC} is absent")
        return
    log, judgments = ClickLog.from_pages(trec_pages(TREC)), trec_judgments(TREC)
    best = choose_examination(log)
    emit(
        result="trec",
        pages=len(log),
        clicks=int(log.clicked.sum()),
        source=best.source,
        examination=rounded(best.examination.value),
        lower=rounded(best.examination.lower),
        upper=rounded(best.examination.upper),
    )
    models: dict[str, ClickModel] = dict(CLICK_MODELS)
    models["pbm, examination 1/rank"] = PositionBased(reciprocal(log))
    for name, model in models.items():
        measured = []
        for seed in range(splits):
            learned, held_out = split_by_session(log, 0.2, seed)
            measured.append(evaluate(model, model.fit(learned), held_out, judgments))
        likelihoods = [one.log_likelihood for one in measured]
        one = measured[0]
        emit(
            result="trec",
            model=name,
            splits=splits,
            held_out_places=int(one.places.sum()),
            log_likelihood=round(float(np.mean(likelihoods)), 5),
            log_likelihood_sd=round(float(np.std(likelihoods)), 5),
            perplexity=rounded(np.mean([one.perplexity for one in measured], axis=0)),
            agreement=round(float(np.mean([one.agreement for one in measured])), 4),
            agreement_sd=round(float(np.std([one.agreement for one in measured])), 4),
            agreement_pairs=one.agreement_pairs,
            agreement_queries=one.agreement_queries,
        )


def reciprocal(log: ClickLog) -> Examination:
    curve = 1 / np.arange(1, log.max_rank + 1)
    return Examination(curve, curve, curve, np.zeros(log.max_rank, np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--impressions", type=int, default=200_000)
    parser.add_argument("--speed-impressions", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("curves", "trust", "misfit", "speed", "trec"))
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(options.speed_impressions),
        "trec": lambda: trec(20),
        "misfit": lambda: misfit(options.impressions),
        "curves": lambda: curves(options.seeds, options.impressions),
        "trust": lambda: trust(options.seeds, options.impressions),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            part()


if __name__ == "__main__":
    main()
