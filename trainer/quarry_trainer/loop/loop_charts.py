"""Versions of a re-ranker over time as SVG, for a page. The same figures give the same characters."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "quarry",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
}
INK, WON, LOST = "#64748b", "#15803d", "#c2410c"
_WIDTH_IN, _VERSION_IN, _HEIGHT_IN, _MOST_IN = 2.4, 0.5, 2.6, 12.0


@dataclass(frozen=True, slots=True)
class Point:
    """A version's value with its 95 % interval."""

    name: str
    value: float
    lower: float
    upper: float


def draw_timeline(points: Sequence[Point], label: str, zero: bool) -> str:
    """Draws a point with its interval for each version, in the order given.

    Args:
        zero: values are differences: a line is drawn at 0, and what surely lies beside it is coloured.
    """
    with mpl.rc_context(SETTINGS):
        width = min(_MOST_IN, _WIDTH_IN + _VERSION_IN * len(points))
        figure = Figure(figsize=(width, _HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        for place, point in enumerate(points):
            colour = _choose_colour(point) if zero else INK
            axes.vlines(place, point.lower, point.upper, color=colour, linewidth=1.6)
            axes.plot(place, point.value, "o", color=colour, markersize=5)
        if zero:
            axes.axhline(0, color=INK, linewidth=0.8, linestyle="dotted")
        axes.set_xticks(range(len(points)), [point.name for point in points], rotation=45, ha="right")
        axes.set_xlim(-0.6, len(points) - 0.4)
        axes.set_ylabel(label)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        return _write_svg(figure)


def _choose_colour(point: Point) -> str:
    return WON if point.lower > 0 else LOST if point.upper < 0 else INK


def _write_svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(
        written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    return written.getvalue()[written.getvalue().index("<svg") :]
