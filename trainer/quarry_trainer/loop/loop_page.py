"""A turn's report as one HTML page that needs nothing else: styles and charts are inside, and no script."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quarry.glossary import TERMS
from quarry.training.loop_outcomes import describe_outcome
from quarry.training.loop_spec import LoopReport, VersionInShort
from quarry.training.spec import Metric, OffPolicyEstimate
from quarry_trainer.loop.loop_charts import Point, draw_timeline

TEMPLATE = "loop.html"
SUBJECTS = ("candidate", "serving", "fused", "difference")
SLICES = ("all", "known", "unseen")
GOOD = {"PROMOTED", "IMPROVED_NOT_PROMOTED"}


def render_page(report: LoopReport) -> str:
    """Renders the page: every text of the report is escaped.

    Only the charts, which are made here, are not.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("quarry_trainer"), PackageLoader("quarry")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["terms"] = TERMS
    environment.filters |= {
        "percent": _format_percent,
        "figure": _format_figure,
        "signed": _format_signed,
        "rank": _format_rank,
        "commands": format_commands,
    }
    rows = list_metric_rows(report.metrics)
    return environment.get_template(TEMPLATE).render(
        report=report,
        sentence=describe_outcome(
            report.outcome, report.model, report.compared_with, report.model_verdict or ""
        ),
        good=report.outcome in GOOD,
        ended=_format_time(report.end_us),
        rows=rows,
        all_simulated=report.simulated and all(version.simulated for version in report.versions),
        charts=[Markup(svg) for svg in _draw_charts(report.versions)],  # noqa: S704  matplotlib escapes
        subjects=[name for name in SUBJECTS if any(name in found for _, _, found in rows)],
    )


def list_metric_rows(metrics: Iterable[Metric]) -> list[tuple[str, str, dict[str, Metric]]]:
    """Lists (slice, measure, metric by subject), of all, known and unseen queries.

    A slice that holds all queries says what the row of all says, and is left out.
    """
    rows: dict[tuple[str, str], dict[str, Metric]] = {}
    for metric in metrics:
        if metric.slice in SLICES:
            rows.setdefault((metric.slice, metric.measure), {})[metric.subject] = metric
    ordered = sorted(rows, key=lambda key: SLICES.index(key[0]))
    return [
        (slice, measure, rows[slice, measure])
        for slice, measure in ordered
        if slice == SLICES[0]
        or _count_queries(rows[slice, measure]) != _count_queries(rows.get((SLICES[0], measure), {}))
    ]


def _count_queries(row: Mapping[str, Metric]) -> int:
    return max((metric.queries for metric in row.values()), default=0)


def _draw_charts(versions: Iterable[VersionInShort]) -> list[str]:
    """Draws one chart for each unit that the versions were measured in."""
    told: Mapping[str, list[Point]] = {
        "nDCG@10": [],
        "nDCG@10, less what served": [],
        "clicks a search, less what served": [],
    }
    value, difference, clicks = told.values()
    for version in versions:
        for metric in version.metrics:
            (difference if metric.subject == "difference" else value).append(
                _make_point(version.name, metric)
            )
        for one in version.off_policy:
            if one.subject == "difference":
                clicks.append(_make_point(version.name, one))
    drawn = {label: [p for p in points if math.isfinite(p.upper - p.lower)] for label, points in told.items()}
    return [draw_timeline(points, label, zero="less" in label) for label, points in drawn.items() if points]


def _make_point(name: str, found: Metric | OffPolicyEstimate) -> Point:
    return Point(name, found.value, found.lower, found.upper)


def format_commands(text: str) -> Markup:
    """Formats what stands between backticks as code; all of the text is escaped."""
    parts = re.split(r"`([^`]+)`", text)  # every second one is code
    code, plain = Markup("<code>{}</code>"), Markup("{}")
    return Markup("").join((code if place % 2 else plain).format(part) for place, part in enumerate(parts))


def _format_time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _format_percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _format_figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _format_signed(value: float) -> str:
    return f"{value:+.3f}"


def _format_rank(rank: int) -> str:
    return str(rank) if rank else "–"
