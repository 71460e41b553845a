"""Draws what mining costs against queries, documents and members, from the lines of mining_speed.py.

python benchmarks/learning/mining_cost_plot.py benchmarks/results/mining_speed.jsonl \\
    docs/explanation/mining-cost.svg
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "quarry"  # the same lines, the same file
from matplotlib import pyplot  # noqa: E402  the backend comes first

GROWS = {"queries": "queries", "documents": "documents", "members": "members"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path)
    parser.add_argument("plot", type=Path)
    arguments = parser.parse_args()
    found = [json.loads(line) for line in arguments.lines.read_text().splitlines()]
    figure, axes = pyplot.subplots(1, len(GROWS), figsize=(10, 3), layout="constrained")
    for axis, grows in zip(axes, GROWS, strict=True):
        rows = [row for row in found if row.get("grows") == grows]
        amounts = [len(row["members"]) if grows == "members" else row[grows] for row in rows]
        axis.plot(amounts, [row["mining_s"] for row in rows], marker="o", label="choosing")
        axis.plot(amounts, [row["spaces_s"] for row in rows], marker="s", label="reading, fitting LSA")
        axis.set_xlabel(grows)
        axis.set_xticks(amounts)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("seconds")
    axes[0].legend(frameon=False)
    figure.savefig(arguments.plot, metadata={"Date": None})


if __name__ == "__main__":
    main()
