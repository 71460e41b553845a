"""A mining report as one HTML page that needs nothing else: styles and charts are inside, and no script."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quarry.glossary import TERMS
from quarry.mining.verdicts import VERDICTS
from quarry_miner.report.mining_charts import draw_heat_map, draw_histogram

TEMPLATE = "report.html"


def render_page(report: Mapping[str, Any]) -> str:
    """Renders the page: every text of the report is escaped.

    Only the charts, which are made here, are not.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("quarry_miner"), PackageLoader("quarry")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["terms"] = TERMS
    environment.filters |= {"percent": _format_percent, "number": _format_number}
    histograms, near = report["histograms"], report["near_positive"]["from"]
    members = [member["name"] for member in report["members"]]
    created = datetime.fromtimestamp(report["create_time_us"] / 1e6, UTC)
    return environment.get_template(TEMPLATE).render(
        report=report,
        meaning=VERDICTS[report["verdict"]],
        created=created.strftime("%Y-%m-%d %H:%M UTC"),
        margins=_make_chart(draw_histogram(histograms["s_qd_minus_s_qp"], "s(q,d) - s(q,p)", 0.0)),
        cosines=_make_chart(draw_histogram(histograms["s_pd"], "s(p,d)", near)),
        overlap=_make_chart(draw_heat_map(members, report["overlap"])) if len(members) > 1 else "",
    )


def _make_chart(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  made by matplotlib, which escapes what it writes


def _format_percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _format_number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
