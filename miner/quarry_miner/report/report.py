"""A mining set's report: one JSON value, from which the terminal and the HTML page are made alike."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from quarry.judgments import describe_disputed
from quarry.mining.spec import MiningSpec, MiningSummary
from quarry_miner.evidence.positives import SHOWN_UNKNOWN, Positives
from quarry_miner.report.false_negative_rows import FalseNegativeRows
from quarry_miner.report.false_negatives import FalseNegatives
from quarry_miner.report.mining_gate import DEFAULT_POLICY, Measured, MiningGatePolicy, judge
from quarry_miner.report.set_figures import SetFigures, Suspect

CONTROLS = ("random", "bm25", "in-batch")
EXCERPT_CHARS = 400

Excerpts = Callable[[Sequence[str]], Mapping[str, str]]
"""Texts of documents by id."""


@dataclass(frozen=True, slots=True)
class MinedFacts:
    """The facts about a run beside its rows.

    Attributes:
        parameters: the preset's constants as used.
        positive_first: pairs whose positive the preset's space puts before all candidates.
        reuse: how many queries were taken from an earlier run, and why not more.
        calibration: what was chosen on this corpus; None without.
        versions: of what the rows depend on.
        data_hash: of all that the rows depend on.
    """

    pairs: int
    positives: Positives
    members: tuple[str, ...]
    parameters: Mapping[str, float]
    positive_first: int
    reuse: Mapping[str, Any]
    calibration: Mapping[str, Any] | None
    simulated: bool
    feedback_us: tuple[int, int] | None
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    data_hash: str


def make_report(
    spec: MiningSpec,
    facts: MinedFacts,
    tables: Iterable[pa.Table],
    rows: FalseNegativeRows,
    excerpts: Excerpts,
    policy: MiningGatePolicy = DEFAULT_POLICY,
) -> tuple[dict[str, Any], MiningSummary]:
    """Makes the report and its summary.

    Args:
        tables: the set's rows, all of a query in one table.
    """
    figures = SetFigures(facts.members, policy.near_positive)
    for table in tables:
        figures.add(table)
        rows.add(table)
    estimate, remarks = rows.estimate()
    if estimate is None and facts.calibration:
        estimate, remarks = _estimate_calibrated(facts.calibration), (_CALIBRATED,)
    negatives = max(1, figures.negatives)
    measured = Measured(
        facts.pairs,
        figures.negatives,
        figures.covered / facts.pairs if facts.pairs else 0.0,
        (estimate.share, estimate.lower, estimate.upper) if estimate else None,
        figures.near / negatives,
        figures.random / negatives,
        spec.preset in CONTROLS,
    )
    verdict, advice = judge(measured, policy)
    report = {
        "verdict": verdict,
        "advice": list(advice),
        "warnings": list(_list_warnings(facts, figures.negatives, estimate)),
        **{
            name: getattr(spec, name)
            for name in ("name", "collection", "preset", "negatives", "depth", "seed")
        },
        "parameters": dict(facts.parameters),
        "create_time_us": spec.create_time_us,
        "pairs": facts.pairs,
        "covered": figures.covered,
        "coverage": measured.coverage,
        "positive_first": facts.positive_first,
        "rows": figures.rows,
        "relabelled": figures.rows - figures.negatives,
        "false_negatives": asdict(estimate) if estimate else None,
        "rungs": dict(sorted(figures.rungs.items())),
        "rules": dict(sorted(figures.rules.items())),
        "members": [_describe_member(name, figures, facts.pairs) for name in facts.members],
        "overlap": [[round(figures.measure_jaccard(a, b), 4) for b in facts.members] for a in facts.members],
        "near_positive": {"from": policy.near_positive, "share": measured.near_positive},
        "random": measured.random,
        "histograms": {"s_qd_minus_s_qp": figures.margins.as_json(), "s_pd": figures.cosines.as_json()},
        **_list_texts(figures, excerpts, policy.near_positive),
        "positives": _describe_positives(facts.positives),
        "reuse": dict(facts.reuse),
        "calibration": facts.calibration,
        "policy": asdict(policy),
        "simulated": facts.simulated,
        "notes": [*facts.notes, *remarks],
        "versions": dict(facts.versions),
        "data_hash": facts.data_hash,
    }
    return report, _make_summary(spec, facts, report, figures)


def _estimate_calibrated(found: Mapping[str, Any]) -> FalseNegatives:
    names = ("share", "lower", "upper", "rows", "queries")
    return FalseNegatives(source="calibration", **{name: found[name] for name in names})


_CALIBRATED = (
    "false negatives are those of the calibration, where one relevant document of each audited query was "
    "known: a set that knows more of them has fewer"
)


def _describe_member(name: str, figures: SetFigures, pairs: int) -> dict[str, Any]:
    """Describes what a member is worth: without it, what only it lists is lost, and the pairs of that
    change."""
    return {
        "name": name,
        "negatives": figures.listed[name],
        "lost_without": figures.alone[name],
        "lost_share": figures.alone[name] / max(1, figures.negatives),
        "pairs_changed": figures.without[name],
        "pairs_changed_share": figures.without[name] / max(1, pairs),
    }


def _list_texts(
    figures: SetFigures, excerpts: Excerpts, near_positive: float
) -> dict[str, list[dict[str, Any]]]:
    lists = {"hardest": figures.hardest, "suspicious": figures.suspicious}
    wanted = {id for some in lists.values() for one in some for id in (one.positive_id, one.negative_id)}
    texts = excerpts(sorted(wanted))

    def with_texts(one: Suspect) -> dict[str, Any]:
        shown = {
            which: _cut(texts.get(getattr(one, f"{which}_id"), "")) for which in ("positive", "negative")
        }
        return {**asdict(one), **shown}

    found = {name: [with_texts(one) for one in some] for name, some in lists.items()}
    for row, one in zip(found["suspicious"], figures.suspicious, strict=True):
        row["advice"] = describe_what_to_do(one, near_positive)
    return found


def describe_what_to_do(one: Suspect, near_positive: float) -> str:
    """Describes what a person does about a negative that may be an answer."""
    if one.s_pd >= near_positive:
        why = f"It says nearly what {one.positive_id} says"
    elif one.s_qd > one.s_qp:
        why = f"It is nearer to the query than {one.positive_id} is"
    else:
        why = "It may be an answer"
    return (
        f"{why}: read it. If it answers the query, judge it relevant (--queries, --qrels) and mine "
        "again; if not, leave it, for it is worth learning from."
    )


def _cut(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


def _describe_positives(positives: Positives) -> dict[str, Any]:
    return {
        "queries": len(positives.queries),
        "judged_pairs": positives.judged_pairs,
        "clicked_pairs": positives.clicked_pairs,
        "unknown_documents": len(positives.unknown),
        "unknown_examples": list(positives.unknown[:SHOWN_UNKNOWN]),
        "unknown_pairs": positives.unknown_pairs,
        "wordless_documents": len(positives.wordless),
        "wordless_examples": list(positives.wordless[:SHOWN_UNKNOWN]),
        "wordless_pairs": positives.wordless_pairs,
        "queries_without_positive": positives.without_positive,
        "contradicted": positives.contradicted,
        "disputed": len(positives.disputed),
        "disputed_examples": [
            {"query": query, "document_id": id} for query, id in positives.disputed[:SHOWN_UNKNOWN]
        ],
    }


def _list_warnings(facts: MinedFacts, negatives: int, estimate: FalseNegatives | None) -> Iterator[str]:
    """Lists what whoever trusts the verdict must know, and what was asked and not followed."""
    positives = facts.positives
    if facts.simulated:
        yield "a program made the feedback, wholly or in part: that shows how mining works, and not how well"
    if negatives and estimate is None:
        yield (
            "how many negatives are false is not known, for nothing tells of enough of them, and the verdict "
            "does not count it: judge all relevant documents of some queries (--calibrate, --audit), and "
            "read the most suspicious negatives"
        )
    if positives.unknown:
        named = ", ".join(positives.unknown[:SHOWN_UNKNOWN])
        yield f"the collection lacks {len(positives.unknown):,} judged or clicked documents: {named}"
    if positives.wordless:
        named = ", ".join(positives.wordless[:SHOWN_UNKNOWN])
        yield f"{positives.wordless_pairs:,} positives have no word in them, and make no example: {named}"
    yield from describe_disputed(positives.disputed)


def _make_summary(
    spec: MiningSpec, facts: MinedFacts, report: Mapping[str, Any], figures: SetFigures
) -> MiningSummary:
    share = report["false_negatives"] or {}
    first, last = facts.feedback_us or (None, None)
    return MiningSummary(
        name=spec.name,
        collection=spec.collection,
        collection_key=spec.collection_key,
        preset=spec.preset,
        create_time_us=spec.create_time_us,
        verdict=report["verdict"],
        advice=tuple(report["advice"]),
        pairs=facts.pairs,
        coverage=report["coverage"],
        rows=figures.rows,
        false_negatives=share.get("share"),
        false_negatives_lower=share.get("lower"),
        false_negatives_upper=share.get("upper"),
        rungs=report["rungs"],
        members=facts.members,
        simulated=facts.simulated,
        data_hash=facts.data_hash,
        feedback_start_us=first,
        feedback_end_us=last,
    )
