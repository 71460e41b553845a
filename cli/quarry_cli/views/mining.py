"""A mining set in a terminal: the verdict first, then what it rests on."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.table import Table

from quarry.mining.presets import ALIASES, PRESETS
from quarry.mining.verdicts import VERDICTS
from quarry.v1 import mining_service_pb2 as pb
from quarry_cli.console import make_plain, note, out, print_json

SHOWN_TEXTS = 3
BARS = " ▁▂▃▄▅▆▇█"


class ClickModelOption(StrEnum):
    CTR = "ctr"
    COEC = "coec"
    SDBN = "sdbn"
    PBM = "pbm"
    UBM = "ubm"
    AFFINE = "affine"


def name_click_model(model: ClickModelOption) -> pb.ClickModel.ValueType:
    return pb.ClickModel.Value(f"CLICK_MODEL_{model.name}")


def show_presets() -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, preset in PRESETS.items():
        aliases = [alias for alias, meant in ALIASES.items() if meant == name]
        table.add_row(make_plain(", ".join([name, *aliases])), make_plain(preset.line))
    out.print(table)


def print_report(made: pb.MiningSet, path: Path) -> None:
    """Prints the whole report as JSON."""
    print_json({"out": str(path), **orjson.loads(made.report_json)})


def show_set(made: pb.MiningSet, path: Path) -> None:
    report = orjson.loads(made.report_json)
    good = report["verdict"] == "GOOD"
    out.print(make_plain(report["verdict"], "bold green" if good else "bold yellow"))
    if meaning := VERDICTS.get(report["verdict"], ""):
        out.print(make_plain(f"  {meaning}"), soft_wrap=True)
    for advice in report["advice"]:
        out.print(make_plain(f"  {advice}", "yellow"), soft_wrap=True)
    for warning in report.get("warnings", ()):
        out.print(make_plain(f"  warning: {warning}", "yellow"), soft_wrap=True)
    out.print(_make_figures_table(report))
    if report["rows"]:
        out.print(_make_members_table(report["members"]))
        out.print(make_plain(f"  s(q,d) - s(q,p)  {draw_sparkline(report['histograms']['s_qd_minus_s_qp'])}"))
        out.print(make_plain(f"  s(p,d)           {draw_sparkline(report['histograms']['s_pd'])}"))
        _show_texts("hardest", report["hardest"])
        _show_texts("most suspicious", report["suspicious"])
    for remark in report["notes"]:
        note(f"  {remark}")
    note(f"{report['rows']:,} rows in {path}; {report['name']} on the server")


def _make_figures_table(report: Mapping[str, Any]) -> Table:
    false = report["false_negatives"]
    estimate = "unknown"
    if false:
        estimate = (
            f"{false['share']:.1%} ({false['lower']:.1%} to {false['upper']:.1%}), from {false['source']}"
        )
    reuse = report["reuse"]
    rows = {
        "preset": report["preset"],
        "pairs": f"{report['pairs']:,}",
        "coverage": f"{report['coverage']:.1%}",
        "rows": f"{report['rows']:,}",
        "false negatives": estimate,
        "rungs": ", ".join(f"{name} {count:,}" for name, count in report["rungs"].items()) or "none",
        "near the positive": f"{report['near_positive']['share']:.1%}",
        "re-used queries": f"{reuse['reused']:,} of {reuse['queries']:,}",
    }
    if report["calibration"]:
        chosen = report["calibration"]["chosen"]
        rows["calibrated"] = ", ".join(f"{name} = {value:g}" for name, value in chosen.items())
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    for name, value in rows.items():
        table.add_row(name, make_plain(value))
    return table


def _make_members_table(members: list[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("member")
    for heading in ("negatives", "lost without it", "pairs changed"):
        table.add_column(heading, justify="right")
    for member in members:
        shares = (f"{member[name]:.1%}" for name in ("lost_share", "pairs_changed_share"))
        table.add_row(make_plain(member["name"]), f"{member['negatives']:,}", *shares)
    return table


def draw_sparkline(histogram: Mapping[str, Any]) -> str:
    """Draws the part of a histogram that holds anything, between its ends."""
    counts, edges = histogram["counts"], histogram["edges"]
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return "nothing"
    some = counts[filled[0] : filled[-1] + 1]
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // max(some))] for count in some)
    return f"{edges[filled[0]]:+.2f} {bars} {edges[filled[-1] + 1]:+.2f}"


def _show_texts(title: str, some: list[Mapping[str, Any]]) -> None:
    for one in some[:SHOWN_TEXTS]:
        out.print(make_plain(f"  {title}: {one['query']}", "bold"), soft_wrap=True)
        for which in ("positive", "negative"):
            text = f"    {which} {one[f'{which}_id']}  {one[which]}"
            out.print(make_plain(text[: out.width]), soft_wrap=True)
        if "advice" in one:
            out.print(make_plain(f"    {one['advice']}", "yellow"), soft_wrap=True)
