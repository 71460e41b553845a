"""Collections and their consistency as a person reads them."""

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from quarry.v1 import collection_service_pb2
from quarry_cli.console import count_things, make_plain, out
from quarry_cli.inputs.cascade import format_stages
from quarry_cli.inputs.promotion import format_promotion

USUAL = {"boost": 0.0, "language": "en", "searchable": True, "embedded": True, "is_title": False}
"""Settings of a text field that go without saying."""
UNPROVEN = "unproven: no verdict says that it helps"


def show_collections(collections: Iterable[collection_service_pb2.Collection]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "documents", "encoder", "re-ranker", "ranking", "description"):
        table.add_column(column, justify="right" if column == "documents" else "left")
    for c in collections:
        table.add_row(
            make_plain(c.name, "bold"),
            f"{c.status.document_count:,}",
            make_plain(c.encoder),
            make_plain(c.reranker or "none"),
            make_plain(c.ranking or "defaults"),
            make_plain(c.description),
        )
    if table.row_count:
        out.print(table)
    else:
        out.print("no collections")


def show_aliases(aliases: Iterable[collection_service_pb2.Alias]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("alias", "collection", "since"):
        table.add_column(column)
    for alias in aliases:
        since = alias.update_time.ToJsonString()
        table.add_row(make_plain(alias.name, "bold"), make_plain(alias.collection), since)
    if table.row_count:
        out.print(table)
    else:
        out.print("no aliases")


def show_collection(c: collection_service_pb2.Collection) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("name", make_plain(c.name, "bold"))
    if c.aliases:
        table.add_row("aliases", make_plain(", ".join(c.aliases)))
    if c.description:
        table.add_row("description", make_plain(c.description))
    table.add_row("documents", f"{c.status.document_count:,}")
    table.add_row("encoder", make_plain(c.encoder))
    said, style = (f" ({UNPROVEN})", "yellow") if c.reranker_unproven else ("", "")
    alone = not c.cascade
    shown = f"{c.reranker or 'none'}{said if alone else ''}"
    table.add_row("re-ranker", make_plain(shown, style if alone else ""))
    if c.ranking:
        table.add_row("ranking", make_plain(c.ranking))
    if c.cascade:
        table.add_row("cascade", make_plain(f"{format_stages(c.cascade)}{said}", style))
    if c.promotion:
        table.add_row("promotion", make_plain(format_promotion(c.promotion)))
    table.add_row("passages", _describe_passages(c.passages))
    for i, field in enumerate(c.schema.fields):
        table.add_row("" if i else "fields", make_plain(_describe_field(field)))
    unknown = collection_service_pb2.UnknownFields.Name(c.schema.unknown_fields)
    table.add_row("other fields", unknown.removeprefix("UNKNOWN_FIELDS_").lower())
    for i, arm in enumerate(c.status.arms):
        table.add_row("" if i else "arms", _describe_arm(arm, c.status.last_sequence))
    if c.status.read_only_reason:
        table.add_row("read-only", make_plain(c.status.read_only_reason, "red"))
    table.add_row("generation", make_plain(c.status.generation))
    if c.status.HasField("reindex"):
        table.add_row("reindex", make_plain(reindex_state(c.status.reindex.progress), "yellow"))
    if c.status.HasField("previous"):
        table.add_row("kept for rollback", make_plain(f"encoder {c.status.previous.encoder}"))
    table.add_row("made", c.create_time.ToJsonString())
    out.print(table)


def _describe_arm(arm: collection_service_pb2.ArmStatus, last_sequence: int) -> Text:
    behind = last_sequence - max(arm.reached_sequence, arm.applied_sequence)
    lacking = [f"{behind:,} writes behind"] if behind > 0 else []
    if arm.encoding:
        lacking.append(f"encoding {count_things(len(arm.encoding), 'large document')}")
    style = "red" if arm.error else "yellow" if lacking else "green"
    return make_plain(f"{arm.arm}: {arm.error or ', '.join(lacking) or 'up to date'}", style)


def _describe_passages(policy: collection_service_pb2.PassagePolicy) -> str:
    size = f"{policy.max_tokens} tokens" if policy.max_tokens else "as many tokens as the encoder reads"
    return f"the first {size}" if policy.first_only else f"{size}, {policy.overlap_tokens} of them shared"


def _describe_field(field: collection_service_pb2.SchemaField) -> str:
    kind = collection_service_pb2.SchemaFieldType.Name(field.type).removeprefix("SCHEMA_FIELD_TYPE_").lower()
    if kind != "text":
        return f"{field.name}: {kind}"
    given = {descriptor.name: value for descriptor, value in field.ListFields()}
    unusual = [f"{k} {str(given[k]).lower()}" for k, usual in USUAL.items() if given.get(k, usual) != usual]
    return f"{field.name}: {kind}{' (' + ', '.join(unusual) + ')' if unusual else ''}"


def reindex_state(now: collection_service_pb2.ReindexProgress) -> str:
    """Tells how far a reindex is, in a few words."""
    state = collection_service_pb2.ReindexState.Name(now.state).removeprefix("REINDEX_STATE_").lower()
    said = f"{state.replace('_', ' ')}, {now.documents_done:,} of {now.documents_total:,} documents"
    if now.state == collection_service_pb2.REINDEX_STATE_BUILDING and now.HasField("remaining"):
        said += f", {now.documents_per_second:,.0f}/s, {_format_time(now.remaining.seconds)} left"
    return f"{said}: {now.problem}" if now.problem else said


def show_estimate(cost: collection_service_pb2.ReindexEstimate) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("documents", f"{cost.documents:,}")
    table.add_row("passages", f"about {cost.passages:,}")
    table.add_row("to encode", f"about {cost.tokens:,} tokens")
    table.add_row("time", f"about {_format_time(cost.duration.seconds + 1)}")
    table.add_row("disk", f"about {cost.disk_bytes / 2**20:,.0f} MiB")
    measured = f"{cost.sampled_documents:,} documents, {cost.encoded_passages:,} of their passages encoded"
    table.add_row("measured on", measured)
    out.print(table)


def _format_time(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def show_consistency(answer: collection_service_pb2.CheckConsistencyResponse) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("arm", "documents", "missing", "surplus", "outdated", "damaged", "for example"):
        table.add_column(column, justify="left" if column in ("arm", "for example") else "right")
    for arm in answer.arms:
        kinds = (arm.missing, arm.surplus, arm.outdated, arm.damaged)
        samples = [id for kind in kinds for id in kind.sample_ids][:3]
        counts = [make_plain(f"{kind.count:,}", "red" if kind.count else "") for kind in kinds]
        table.add_row(make_plain(arm.arm), f"{arm.documents:,}", *counts, make_plain(", ".join(samples)))
    out.print(table)
    for arm in answer.arms:
        if arm.damaged_files:
            out.print(make_plain(f"{arm.arm}: {arm.damaged_files}", "red"))
        if arm.vectors_checked:
            looked = f"{arm.vectors_checked:,} vectors looked at"
            out.print(make_plain(f"{arm.arm}: {looked}, {arm.documents_encoded:,} documents encoded again"))
    if answer.consistent:
        out.print(f"every arm holds what the log holds, up to write {answer.sequence:,}", style="green")
    else:
        out.print(
            "the arms differ from the log: `quarry collection repair` applies what differs", style="red"
        )
