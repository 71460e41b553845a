"""A turn of the loop in a terminal: the outcome first, then what it rests on and changes."""

from typing import Any, cast

from rich import box
from rich.table import Table

from quarry.training.loop_outcomes import describe_outcome
from quarry.training.loop_spec import LoopOutcome
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.console import make_plain, note, out, print_json, warn
from quarry_cli.views.training import show_advice, show_difference, to_numbers

SHOWN_CHANGES = 5
_STYLES = {"PROMOTED": "bold green", "IMPROVED_NOT_PROMOTED": "bold green", "BAD_EXAMPLES": "bold red"}


def name_outcome(report: pb.LoopReport) -> str:
    """Names the outcome without the enum's prefix."""
    return pb.LoopOutcome.Name(report.outcome).removeprefix("LOOP_OUTCOME_")


def print_report(report: pb.LoopReport) -> None:
    """Prints the report as JSON, its numbers as numbers."""
    print_json(
        {
            "name": report.name,
            "outcome": name_outcome(report),
            "new_choices": report.new_choices,
            "min_new_choices": report.min_new_choices,
            "mining_set": report.mining_set,
            "mining_verdict": _name_mining_verdict(report),
            "model": report.model,
            "model_verdict": _name_model_verdict(report),
            "compared_with": report.compared_with,
            "metrics": [to_numbers(metric) for metric in report.metrics],
            "queries_compared": report.queries_compared,
            "changes": [_describe_change(change) for change in report.changes],
            "advice": list(report.advice),
            "simulated": report.simulated,
        }
    )


def show_report(report: pb.LoopReport) -> None:
    outcome = name_outcome(report)
    name = f"  {report.model}" if report.model else ""
    out.print(make_plain(f"{outcome}{name}", _STYLES.get(outcome, "bold yellow")))
    verdict = _name_model_verdict(report)
    out.print(
        make_plain(
            f"  {describe_outcome(cast(LoopOutcome, outcome), report.model, report.compared_with, verdict)}"
        ),
        soft_wrap=True,
    )
    show_advice(report.advice)
    show_difference(report.metrics, "what served")
    if report.queries_compared:
        _show_changes(report)
    if report.simulated:
        warn("the feedback was made by a program, wholly or in part")
    if report.mining_set:
        note(f"examples: {report.mining_set} ({_name_mining_verdict(report)}); report: {report.name}")


def _show_changes(report: pb.LoopReport) -> None:
    """Shows how many top tens differ, and those of the queries that are asked most."""
    note(
        f"the top ten of {len(report.changes)} of the {report.queries_compared} queries that are asked most "
        "differs"
    )
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("query", "asked", "new in it", "gone", "moved"):
        table.add_column(column, justify="left" if column == "query" else "right")
    for change in report.changes[:SHOWN_CHANGES]:
        new = sum(not one.rank_before for one in change.documents)
        gone = sum(not one.rank_after for one in change.documents)
        moved = len(change.documents) - new - gone
        table.add_row(make_plain(change.query), f"{change.times_asked:,}", str(new), str(gone), str(moved))
    if report.changes:
        out.print(table)


def _describe_change(change: pb.QueryChange) -> dict[str, Any]:
    documents = [to_numbers(document) for document in change.documents]
    return {"query": change.query, "times_asked": change.times_asked, "documents": documents}


def _name_mining_verdict(report: pb.LoopReport) -> str:
    if not report.mining_set:
        return ""
    return mining_pb.MiningVerdict.Name(report.mining_verdict).removeprefix("MINING_VERDICT_")


def _name_model_verdict(report: pb.LoopReport) -> str:
    if not report.model_verdict:
        return ""
    return models_pb.ModelVerdict.Name(report.model_verdict).removeprefix("MODEL_VERDICT_")
