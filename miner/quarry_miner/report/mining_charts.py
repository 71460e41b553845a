"""Charts of a mining report as SVG, to be put into a page. The same figures give the same characters."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "quarry",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
}
"""Names of members are users' texts: a dollar sign in one is no formula."""
INK, FILL, WARN = "#334155", "#4f7cac", "#c2410c"
MAX_LABEL_CHARS = 32


def draw_histogram(found: Mapping[str, Sequence[float]], label: str, mark: float | None = None) -> str:
    """Bars over the range that holds anything. ``mark``: a value to draw a line at."""
    edges, counts = list(found["edges"]), list(found["counts"])
    filled = [place for place, count in enumerate(counts) if count] or [0]
    first, last = max(0, filled[0] - 2), min(len(counts), filled[-1] + 3)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(4.6, 2.3), layout="constrained")
        axes = figure.add_subplot()
        widths = [b - a for a, b in zip(edges[first:last], edges[first + 1 : last + 1], strict=True)]
        axes.bar(edges[first:last], counts[first:last], widths, align="edge", color=FILL, edgecolor="white")
        if mark is not None and edges[first] <= mark <= edges[last]:
            axes.axvline(mark, color=WARN, linewidth=1.2)
        axes.set_xlabel(label)
        axes.set_ylabel("negatives")
        return _write_svg(figure, axes)


def draw_heat_map(names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Draws a square of values in [0, 1], each written into its cell."""
    with mpl.rc_context(SETTINGS):
        size = 1.4 + 0.62 * len(names)
        figure = Figure(figsize=(size + 0.8, size), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
        short = [
            name if len(name) <= MAX_LABEL_CHARS else name[: MAX_LABEL_CHARS - 1] + "…" for name in names
        ]
        axes.set_xticks(range(len(names)), short, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), short)
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                colour = "white" if value > 0.6 else INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
        return _write_svg(figure, axes)


def _write_svg(figure: Figure, axes: Any) -> str:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    written = io.StringIO()
    figure.savefig(
        written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    return written.getvalue()[written.getvalue().index("<svg") :]
