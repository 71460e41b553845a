"""The table and the plot of docs/explanation/tuning.md, out of the lines that ``tuning.py`` has written.

python benchmarks/quality/tuning_table.py benchmarks/results/tuning.jsonl --plot build/tuning.svg
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

STYLE: dict[Any, Any] = {"svg.hashsalt": "quarry", "svg.fonttype": "none", "font.size": 9}
ARMS = ("bm25", "dense", "rrf", "default")
Line = dict[str, Any]


def write_table(lines: list[Line]) -> None:
    columns = "tuned less default | 95 % | less the better of RRF and default | title | share of dense"
    print(f"| set | queries | BM25 | dense | RRF | default | **tuned** | {columns} |")
    print("|---" * 12 + "|")
    for line in lines:
        gain = line["difference"]
        figures = " | ".join(f"{line[arm]:.3f}" for arm in ARMS)
        interval = f"{gain['value']:+.3f} | {gain['lower']:+.3f} to {gain['upper']:+.3f}"
        fitted = f"{line['title_weight']:g} | {line['weights']['dense']:.2f}"
        tuned = f"**{line['tuned']:.3f}** | {interval} | {line['over_rrf_and_default']:+.3f}"
        print(f"| {line['set']} | {line['queries']:,} | {figures} | {tuned} | {fitted} |")
    mean = np.mean([line["difference"]["value"] for line in lines])
    print(f"\nMean of tuned less default: {mean:+.3f}")


def plot(lines: list[Line], target: Path) -> None:
    """Draws nDCG@10 of each order less that of the default, with the interval of the tuned one."""
    with mpl.rc_context(STYLE):
        figure, axis = pyplot.subplots(figsize=(6.4, 0.5 * len(lines) + 1))
        for place, line in enumerate(reversed(lines)):
            gain = line["difference"]
            axis.plot([gain["lower"], gain["upper"]], [place, place], color="#c33", linewidth=2)
            axis.plot(gain["value"], place, "o", color="#c33", label="" if place else "tuned, 95 %")
            for arm, mark in zip(ARMS[:-1], ("x", "+", "s"), strict=True):
                label = "" if place else {"bm25": "BM25 alone", "dense": "dense alone", "rrf": "RRF"}[arm]
                axis.plot(line[arm] - line["default"], place, mark, color="#246", label=label)
        axis.axvline(0, color="#000", linewidth=0.8)
        axis.set_xscale("symlog", linthresh=0.02)
        axis.set_xticks([-0.4, -0.1, -0.03, -0.01, 0, 0.01, 0.03], minor=False)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_yticks(range(len(lines)), [line["set"] for line in reversed(lines)])
        axis.set_xlabel("nDCG@10 less the default's (linear between -0.02 and 0.02)")
        axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=4, frameon=False)
        figure.tight_layout()
        figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path, help="JSON lines, one a set")
    parser.add_argument("--plot", type=Path, help="SVG file that is written")
    options = parser.parse_args()
    lines: list[Line] = [json.loads(line) for line in options.lines.read_text().splitlines()]
    write_table(lines)
    if options.plot:
        plot(lines, options.plot)


if __name__ == "__main__":
    main()
