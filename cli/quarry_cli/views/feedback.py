"""Feedback as a person reads it: how much there is, what counts, and at which ranks."""

from collections.abc import Iterable

from rich import box
from rich.table import Table

from quarry.v1 import feedback_service_pb2 as pb
from quarry_cli.console import make_plain, out, say

MARKS = {
    pb.EVENT_MARK_UNSPECIFIED: "counted",
    pb.EVENT_MARK_ORPHAN: "orphan",
    pb.EVENT_MARK_NOT_SHOWN: "not shown",
    pb.EVENT_MARK_CAPPED: "capped",
    pb.EVENT_MARK_BURST: "burst",
    pb.EVENT_MARK_BOT: "bot",
    pb.EVENT_MARK_TRIAL: "trial",
}
"""Columns, in the order in which an event falls through the guards."""
BAR = 30


def show_stats(found: pb.GetFeedbackStatsResponse) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("impressions", _with(found.impressions, found.simulated_impressions, "simulated"))
    if found.trial_impressions:
        table.add_row("trials", f"{found.trial_impressions:,} of them: nothing is learned from these")
    if found.dropped_impressions:
        table.add_row("dropped", f"[red]{found.dropped_impressions:,}[/] since the server started")
    if found.impressions:
        table.add_row("from", found.first_time.ToJsonString())
        table.add_row("to", found.last_time.ToJsonString())
    for name in ("queries", "users", "sessions", "texts"):
        table.add_row(name, f"{getattr(found, name):,}")
    out.print(table)
    if found.events:
        out.print(_make_events_table(found.events))
    if found.ranks:
        out.print(_make_ranks_table(found.ranks))


def show_purged(found: pb.PurgeFeedbackResponse) -> None:
    out.print(
        f"deleted {found.impressions:,} impressions, {found.events:,} events and {found.texts:,} texts",
        soft_wrap=True,
    )
    if found.mining_sets:
        out.print(make_plain(f"and the mining sets {', '.join(found.mining_sets)}"), soft_wrap=True)
    if found.models:
        told = (
            f"{', '.join(found.models)} may have learned from it; `quarry model retire` removes their files"
        )
        out.print(make_plain(told), soft_wrap=True)


def show_rejections(rejections: Iterable[pb.RejectedLine]) -> None:
    for rejection in rejections:
        say(f"  line {rejection.line}: {rejection.reason}", "yellow")


def _with(count: int, part: int, name: str) -> str:
    return f"{count:,}" + (f", {part:,} of them {name}" if part else "")


def _make_events_table(counts: Iterable[pb.EventCount]) -> Table:
    """Makes a table of events by type, and what became of them."""
    by_type: dict[str, dict[int, int]] = {}
    for one in counts:
        name = pb.EventType.Name(one.type).removeprefix("EVENT_TYPE_").lower()
        by_type.setdefault(name, {})[one.mark] = one.count
    marks = [mark for mark in MARKS if any(mark in row for row in by_type.values())]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("events")
    for mark in marks:
        table.add_column(MARKS[mark], justify="right")
    for name, row in by_type.items():
        table.add_row(name, *(f"{row.get(mark, 0):,}" for mark in marks))
    return table


def _make_ranks_table(ranks: Iterable[pb.RankCount]) -> Table:
    """Makes a table of how often each rank was seen and chosen."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("rank", "displayed", "clicked", "rate"):
        table.add_column(heading, justify="right")
    table.add_column("")
    rates = {one.rank: one.clicked / one.displayed if one.displayed else 0.0 for one in ranks}
    top = max(rates.values()) or 1.0
    for one in ranks:
        rate = rates[one.rank]
        bar = "█" * round(BAR * rate / top)
        table.add_row(str(one.rank), f"{one.displayed:,}", f"{one.clicked:,}", f"{rate:.1%}", bar)
    return table
