"""A trained version in a terminal: the verdict first, then what it rests on, then what to type next."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from rich import box
from rich.table import Table

from quarry.v1 import model_service_pb2 as models_pb
from quarry_cli.console import as_json, make_plain, note, out, print_json, warn

SLICES = ("all", "known", "unseen")
LEAST_QUERIES = 5
"""Of a slice that is shown: an interval of fewer says nothing. The report has them all."""
IMPROVED = "IMPROVED"
STYLES = {IMPROVED: "bold green", "BAD_DATA": "bold red", "REGRESSED": "bold red"}
_INTEGERS = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}


def name_verdict(made: models_pb.Model | models_pb.Ranking) -> str:
    """Names the verdict without the enum's prefix; ``UNSPECIFIED`` if it was not evaluated."""
    return models_pb.ModelVerdict.Name(made.verdict).removeprefix("MODEL_VERDICT_")


def list_cautions(made: models_pb.Model | models_pb.Ranking) -> list[str]:
    """Lists cautions without the enum's prefix."""
    return [models_pb.ModelCaution.Name(one).removeprefix("MODEL_CAUTION_") for one in made.cautions]


def describe_calibration(model: models_pb.Model) -> str:
    """Describes what its relevance was fitted on, and how far it is off; empty if it has none."""
    if not model.HasField("calibration"):
        return ""
    found = model.calibration
    unseen = f", {found.ece_unseen:.3f} on unseen documents" if found.HasField("ece_unseen") else ""
    return (
        f"from {found.source}: {found.queries:,} held-out queries, {found.relevant:,} of {found.pairs:,} "
        f"candidates relevant; off by {found.ece:.3f} on average over ten hits{unseen}"
    )


def print_model(model: models_pb.Model, promoted: bool) -> None:
    """Prints the version as JSON, its numbers as numbers."""
    print_json(
        {
            "model_version": model.name,
            "verdict": name_verdict(model),
            "advice": list(model.advice),
            "cautions": list_cautions(model),
            "metrics": [to_numbers(metric) for metric in model.metrics],
            "blend": to_numbers(model.blend),
            "calibration": to_numbers(model.calibration) if model.HasField("calibration") else None,
            "lineage": to_numbers(model.lineage),
            "promoted": promoted,
        }
    )


def to_numbers(message: Message) -> dict[str, Any]:
    """Converts a message as ``as_json`` does, but for 64-bit integers, which are numbers here."""
    fields = message.DESCRIPTOR.fields_by_name
    values = as_json(message)
    return {
        name: int(value) if fields[name].cpp_type in _INTEGERS else value for name, value in values.items()
    }


def show_verdict(made: models_pb.Model | models_pb.Ranking) -> None:
    """Shows the verdict, the version's name, its cautions and the advice."""
    verdict = name_verdict(made)
    name = f"  {made.name}" if made.name else ""
    out.print(make_plain(f"{verdict}{name}", STYLES.get(verdict, "bold yellow")))
    if cautions := list_cautions(made):
        out.print(make_plain(f"  cautions: {', '.join(cautions)}", "yellow"))
    show_advice(made.advice)


def show_advice(advice: Iterable[str]) -> None:
    for one in advice:
        out.print(make_plain(f"  {one}", "yellow"), soft_wrap=True)


def show_difference(metrics: Sequence[models_pb.ModelMetric], compared_with: str) -> None:
    """Shows the figures, if there are any, and says what the candidate is compared with: what serves or
    served."""
    if metrics:
        out.print(make_figures_table(metrics))
        note(
            f"difference: candidate less {compared_with}, with its 95 % interval, by paired bootstrap over "
            "queries"
        )


def show_model(model: models_pb.Model, promoted: bool) -> None:
    show_verdict(model)
    show_difference(model.metrics, "what serves")
    if told := describe_calibration(model):
        note(f"relevance {told}")
    if model.lineage.simulated:
        warn("the feedback was made by a program, wholly or in part")
    if model.name:
        note(describe_next_step(model, promoted))


def describe_next_step(model: models_pb.Model, promoted: bool) -> str:
    """Describes what to type, now that there is a version."""
    if promoted:
        return f"{model.name} serves; `quarry model rollback {model.collection}` takes it back"
    if name_verdict(model) != IMPROVED:
        return (
            f"{model.name} is not proven to be better, so it should not serve, and what served stays: train "
            "with more examples, or hold it to more judged queries (--queries, --qrels)"
        )
    if model.kind == models_pb.MODEL_KIND_ENCODER:
        return f"`quarry collection reindex {model.collection} --encoder {model.name}` makes it the encoder"
    if cautions := list_cautions(model):
        told = f"it has cautions ({', '.join(cautions)}), so whether it serves is for a person to say"
        return f"{told}; `quarry model promote {model.name}` makes it serve"
    return f"`quarry model promote {model.name}` makes it serve"


def make_figures_table(metrics: Iterable[models_pb.ModelMetric]) -> Table:
    """Makes a row for each measure of all, known and unseen queries; the report has more groups."""
    rows: dict[tuple[str, str], dict[str, models_pb.ModelMetric]] = {}
    for metric in metrics:
        if metric.slice in SLICES and (metric.slice == SLICES[0] or metric.queries >= LEAST_QUERIES):
            rows.setdefault((metric.slice, metric.measure), {})[metric.subject] = metric
    others = [name for name in ("serving", "fused") if any(name in row for row in rows.values())]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)  # fits into 80 columns
    for heading in ("queries", "measure"):
        table.add_column(heading, no_wrap=True)
    for heading in ("candidate", *others, "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="center", style="dim", no_wrap=True)
    table.add_column("n", justify="right", style="dim", no_wrap=True)
    for slice, measure in sorted(rows, key=lambda key: SLICES.index(key[0])):
        row = rows[slice, measure]
        cells = [_format_value(row, name) for name in ("candidate", *others)]
        table.add_row(make_plain(slice), make_plain(measure), *cells, *_format_difference(row))
    return table


def _format_value(row: Mapping[str, models_pb.ModelMetric], subject: str) -> str:
    return f"{row[subject].value:.3f}" if subject in row else ""


def _format_difference(row: Mapping[str, models_pb.ModelMetric]) -> tuple[str, str, str]:
    count = f"{max(metric.queries for metric in row.values()):,}"
    if "difference" not in row:
        return "", "", count
    metric = row["difference"]
    return f"{metric.value:+.3f}", f"{metric.lower:+.3f} to {metric.upper:+.3f}", count
