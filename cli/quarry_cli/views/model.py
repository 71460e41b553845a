"""Versions of models in a terminal."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.table import Table
from rich.text import Text

from quarry.v1 import model_service_pb2 as pb
from quarry_cli.console import as_json, make_plain, out, print_json, warn
from quarry_cli.views.training import describe_calibration, list_cautions, make_figures_table, name_verdict

Version = pb.Model | pb.Ranking
MEASURE = "nDCG@10"
_STATE_STYLES = {"serving": "bold green", "retired": "dim"}
_VERDICT_STYLES = {"IMPROVED": "green", "REGRESSED": "red", "BAD_DATA": "red"}


def show_models(models: Iterable[pb.Model]) -> None:
    table = _make_table("version", "kind", "state", "verdict")
    for model in models:
        table.add_row(make_plain(model.name, "bold"), name_kind(model), *_list_cells(model))
    out.print(table if table.row_count else "no models")


def show_rankings(rankings: Iterable[pb.Ranking]) -> None:
    table = _make_table("version", "state", "verdict")
    for ranking in rankings:
        table.add_row(make_plain(ranking.name, "bold"), *_list_cells(ranking))
    out.print(table if table.row_count else "no ranking configurations")


def show_model(model: pb.Model) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in _list_facts(model).items():
        if value:
            table.add_row(name, make_plain(value))
    out.print(table)
    for advice in model.advice:
        out.print(make_plain(f"  {advice}", "yellow"), soft_wrap=True)
    if model.metrics:
        out.print(make_figures_table(model.metrics))
    if model.lineage.simulated:
        warn("the feedback was made by a program, wholly or in part")


def print_model(model: pb.Model) -> None:
    print_json(as_json(model))


def name_kind(model: pb.Model) -> str:
    return pb.ModelKind.Name(model.kind).removeprefix("MODEL_KIND_").lower()


def name_state(version: Version) -> str:
    return pb.ModelState.Name(version.state).removeprefix("MODEL_STATE_").lower()


def format_moment(time: Timestamp) -> str:
    """Formats a moment in local time, to the minute."""
    return f"{datetime.fromtimestamp(time.seconds).astimezone():%Y-%m-%d %H:%M}"


def _make_table(*headings: str) -> Table:
    """Makes a table with these columns first, and then those of what was measured."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "version")
    for heading in (MEASURE, "serving", "difference, 95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("created", no_wrap=True)
    return table


def _list_cells(version: Version) -> tuple[Text | str, ...]:
    """Lists state, verdict, figures and time."""
    return (
        make_plain(name_state(version), _STATE_STYLES.get(name_state(version), "")),
        _write_verdict(version),
        *_format_figures(version),
        format_moment(version.create_time),
    )


def _write_verdict(version: Version) -> Text:
    verdict = name_verdict(version)
    return make_plain("" if verdict == "UNSPECIFIED" else verdict, _VERDICT_STYLES.get(verdict, ""))


def _format_figures(version: Version) -> tuple[str, str, str]:
    """Formats the candidate, what it was compared with, and the difference, on all queries."""
    found = {m.subject: m for m in version.metrics if (m.measure, m.slice) == (MEASURE, "all")}
    base = found.get("serving") or found.get("fused")
    difference = found.get("difference")
    return (
        f"{found['candidate'].value:.3f}" if "candidate" in found else "",
        f"{base.value:.3f}" if base else "",
        f"{difference.value:+.3f} ({difference.lower:+.3f} to {difference.upper:+.3f})" if difference else "",
    )


def _list_facts(model: pb.Model) -> Mapping[str, str]:
    lineage, blend = model.lineage, model.blend
    promoted = f" by {model.promoted_by}" if model.promoted_by else ""
    span = [format_moment(t) for t in (lineage.feedback_start_time, lineage.feedback_end_time) if t.seconds]
    verdict = name_verdict(model)
    return {
        "version": model.name,
        "kind": name_kind(model),
        "state": name_state(model),
        "verdict": "" if verdict == "UNSPECIFIED" else verdict,
        "cautions": ", ".join(list_cautions(model)),
        "description": model.description,
        "created": format_moment(model.create_time),
        "promoted": format_moment(model.promote_time) + promoted if model.HasField("promote_time") else "",
        "base": lineage.base,
        "compared with": lineage.compared_with,
        "examples": lineage.examples,
        "data": lineage.data_hash,
        "feedback": " to ".join(span),
        "training": f"{lineage.loss}, {lineage.steps:,} steps in {lineage.train_seconds:,.0f} s, "
        f"seed {lineage.seed}"
        if lineage.loss
        else "",
        "blend": f"{blend.rerank:g} x re-ranker + {blend.fused:g} x fused" if blend.fused else "",
        "relevance": describe_calibration(model),
        "files": f"{model.artefact_bytes / 1e6:,.1f} MB, {model.artefact_hash[:16]}",
        "made by": f"quarry {lineage.quarry_version}",
    }
