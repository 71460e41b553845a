"""`quarry get` and `quarry delete`: single documents by id."""

from typing import Annotated
from uuid import uuid4

import typer
from google.rpc import code_pb2
from rich.table import Table

from quarry.v1 import document_service_pb2, types_pb2
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.console import as_json, make_plain, out, print_json, say

MAX_IDS = 10_000

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
