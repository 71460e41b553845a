"""The table and the plot of what is kept of a passage, out of the lines that ``state_sizes.py`` has written.

    python state_sizes_table.py ../results/state_sizes.jsonl --plot ../../docs/explanation/state-sizes.svg

nDCG@10 of each form, and how far it is from that of the split model with its states as they are: queries that
ask about one thing are drawn together for the 95 % intervals.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from flywheel_table import MEASURE, STYLE, Line, Sample, things_of
from matplotlib import pyplot
from matplotlib.ticker import ScalarFormatter

WHOLE, LOSS = "split, float16", 0.005
"""What the others are compared with, and how much worse than it a smaller form may be."""


def compare(line: Line, whole: Line) -> Sample:
    """Returns each query's nDCG@10 in one form, less that with the states as they are."""
    values, others = (one["values"][MEASURE] for one in (line, whole))
    things = things_of(line["set"])
    return Sample(np.array([values[query] - others[query] for query in values]), [things[q] for q in values])


def write_table(lines: dict[str, Line]) -> None:
    print("| form | bytes a passage | nDCG@10 | less split, float16 | 95 % |\n|---|---|---|---|---|")
    for name, line in lines.items():
        gain = compare(line, lines[WHOLE]).interval
        shown = "" if name == WHOLE else f"{gain.value:+.3f} | {gain.lower:+.3f} to {gain.upper:+.3f}"
        print(f"| {name} | {line['bytes']:,} | {line['means'][MEASURE]:.3f} | {shown or ' | '} |")


def plot(lines: dict[str, Line], target: Path) -> None:
    """Draws nDCG@10 over bytes, and the least that a smaller form may have."""
    with mpl.rc_context(STYLE):
        figure, axis = pyplot.subplots(figsize=(6, 3.2))
        for name, line in lines.items():
            x, y = line["bytes"], line["means"][MEASURE]
            axis.plot(x, y, "o", color="#246" if name.startswith("split") else "#c33")
            axis.annotate(name, (x, y), xytext=(6, -3), textcoords="offset points")
        axis.axhline(lines[WHOLE]["means"][MEASURE] - LOSS, color="#888", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_xticks([line["bytes"] for line in lines.values()], minor=False)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.margins(0.3, 0.15)
        axis.set_xlabel("bytes a passage")
        axis.set_ylabel(MEASURE)
        figure.tight_layout()
        figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    read: list[dict[str, Any]] = [json.loads(line) for line in options.lines.read_text().splitlines()]
    lines = {line["form"]: line for line in read}
    write_table(lines)
    if options.plot:
        plot(lines, options.plot)


if __name__ == "__main__":
    main()
