"""`quarry get` and `quarry delete`: single documents by id; `quarry document`: all that meet a condition."""

from typing import Annotated
from uuid import uuid4

import typer
from google.rpc import code_pb2
from rich.table import Table

from quarry.client import Client
from quarry.v1 import document_service_pb2, search_service_pb2, types_pb2
from quarry_cli.calls.conditions import WhereOption, parse_conditions
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import as_json, count_things, make_plain, out, print_json, say
from quarry_cli.inputs.conditions import require_all
from quarry_cli.inputs.values import FieldTypes, list_field_types, to_field_value

MAX_IDS = 10_000
BULK_TIMEOUT_S = 600

app = typer.Typer(no_args_is_help=True, help="Change or delete all documents that meet a condition.")
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

CollectionArgument = Annotated[str, typer.Argument(help="The collection.", show_default=False)]


def get(
    name: CollectionArgument,
    id: Annotated[str, typer.Argument(help="The document's id.", show_default=False)],
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Show one document."""
    with connect(server, timeout) as quarry:
        request = document_service_pb2.GetDocumentRequest(collection=name, id=id)
        document = quarry.documents.GetDocument(request).document
    if json:
        print_json(as_json(document))
    else:
        show_document(document)


def show_document(document: types_pb2.Document) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("id", make_plain(document.id, "bold"))
    table.add_row("version", str(document.version))
    table.add_row("updated", document.update_time.ToJsonString())
    for name in sorted(document.fields):
        table.add_row(make_plain(name, "cyan"), make_plain(format_value(document.fields[name])))
    out.print(table)


def format_value(value: types_pb2.FieldValue) -> str:
    """Formats a field's value as a person writes it."""
    match value.WhichOneof("kind"):
        case None:
            return ""
        case "list_value":
            return ", ".join(format_value(item) for item in value.list_value.values)
        case "timestamp_value":
            return value.timestamp_value.ToJsonString()
        case "boolean_value":
            return str(value.boolean_value).lower()
        case kind:
            return str(getattr(value, kind))


def delete(
    name: CollectionArgument,
    ids: Annotated[list[str], typer.Argument(help="Ids of documents.", show_default=False)],
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Delete documents by id. Exit status 1 if one was not there."""
    statuses: list[document_service_pb2.DocumentStatus] = []
    with connect(server, timeout) as quarry:
        for start in range(0, len(ids), MAX_IDS):
            request = document_service_pb2.BatchDeleteDocumentsRequest(
                collection=name, ids=ids[start : start + MAX_IDS], request_id=str(uuid4())
            )
            answer = quarry.documents.BatchDeleteDocuments(request)
            statuses += answer.statuses
    failed = [status for status in statuses if status.status.code != code_pb2.OK]
    deleted = len(statuses) - len(failed)
    if json:
        reasons = [{"id": s.id, "reason": s.status.message or "not found"} for s in failed]
        print_json({"collection": name, "deleted": deleted, "failures": reasons})
    else:
        out.print(f"{deleted:,} deleted from {name}", soft_wrap=True)
    for status in failed:
        say(f"  {status.id}: {status.status.message or 'not found'}", "yellow")
    if failed:
        raise typer.Exit(1)


@app.command("update")
def update_where(
    name: CollectionArgument,
    where: WhereOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Give the field this value; repeated: a list."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Take the field away; repeatable.")
    ] = None,
    yes: YesOption = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Change fields of all documents that meet a condition. Exit status 1 if one could not be changed.

    Documents are changed a few hundred at a time, beside other writes. The same command again is safe.
    """
    with connect(server, timeout, default_timeout_s=BULK_TIMEOUT_S) as quarry:
        filter = _require_condition(quarry, name, where)
        types = list_field_types(read_collection(quarry, name).schema)
        request = document_service_pb2.UpdateDocumentsByFilterRequest(
            collection=name,
            filter=filter,
            fields=parse_assignments(set_ or [], types),
            removed_fields=unset or [],
            request_id=str(uuid4()),
        )
        if not request.fields and not request.removed_fields:
            raise typer.BadParameter("nothing to change: give --set or --unset")
        _confirm(quarry, name, filter, "Change", yes)
        answer = quarry.documents.UpdateDocumentsByFilter(request)
    if json:
        print_json({"collection": name, **as_json(answer)})
    else:
        matched = f"{answer.matched_count:,} that meet the condition"
        out.print(
            f"{count_things(answer.updated_count, 'document')} changed in {name}, of {matched}",
            soft_wrap=True,
        )
    for status in answer.refusals:
        say(f"  {status.id}: {status.status.message}", "yellow")
    if answer.refused_count:
        say(f"{count_things(answer.refused_count, 'document')} could not be changed", "yellow")
        raise typer.Exit(1)


@app.command("delete")
def delete_where(
    name: CollectionArgument,
    where: WhereOption = None,
    yes: YesOption = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Delete all documents that meet a condition. There is no undo."""
    with connect(server, timeout, default_timeout_s=BULK_TIMEOUT_S) as quarry:
        filter = _require_condition(quarry, name, where)
        _confirm(quarry, name, filter, "Delete", yes)
        request = document_service_pb2.DeleteDocumentsByFilterRequest(
            collection=name, filter=filter, request_id=str(uuid4())
        )
        answer = quarry.documents.DeleteDocumentsByFilter(request)
    if json:
        print_json({"collection": name, "deleted": answer.deleted_count})
    else:
        out.print(f"{answer.deleted_count:,} deleted from {name}", soft_wrap=True)


def parse_assignments(texts: list[str], types: FieldTypes) -> dict[str, types_pb2.FieldValue]:
    """Parses what ``--set`` says: a value by field, of the field's type; all that one field is given is a
    list."""
    given: dict[str, list[str]] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or not field.strip():
            raise typer.BadParameter(f"--set: {text!r} is not FIELD=VALUE")
        given.setdefault(field.strip(), []).append(value)
    values: dict[str, types_pb2.FieldValue] = {}
    for field, several in given.items():
        try:
            values[field] = to_field_value(several if len(several) > 1 else several[0], types.get(field))
        except ValueError as error:
            raise typer.BadParameter(f"--set: {field}: the value {error}") from None
    return values


def _require_condition(quarry: Client, name: str, where: list[str] | None) -> types_pb2.Filter:
    condition = require_all(parse_conditions(quarry, name, where or []))
    if condition is None:
        raise typer.BadParameter("give --where: which documents")
    return condition


def _confirm(quarry: Client, name: str, filter: types_pb2.Filter, action: str, yes: bool) -> None:
    """Asks, with the number of documents that it is about, unless the caller has said yes."""
    if yes:
        return
    request = search_service_pb2.SearchRequest(
        collection=name, filter=filter, page_size=1, return_fields=["-"], unlogged=True
    )
    count = quarry.search.Search(request).total.count
    typer.confirm(f"{action} {count_things(count, 'document')} of {name}?", abort=True, err=True)
