"""`quarry model`: the versions there are, which one serves, and ways back."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import uuid4

import typer

from quarry.ranking.names import parse_ranking_name
from quarry.v1 import model_service_pb2 as pb
from quarry_cli.calls.model import fetch_models, fetch_rankings, run_import, write_archive
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.console import as_json, note, out, print_json
from quarry_cli.failures import CliError
from quarry_cli.views.model import print_model, show_model, show_models, show_rankings
from quarry_cli.views.tune import read_boosts, show_ranking

M = TypeVar("M", pb.Model, pb.Ranking)

LOADING_S = 300.0
"""A server may export a model before it answers."""

app = typer.Typer(no_args_is_help=True, help="List, promote, take back, retire, import and export models.")
CollectionFilter = Annotated[str, typer.Argument(help="Of this collection alone.", show_default=False)]
CollectionArgument = Annotated[str, typer.Argument(help="The collection.", show_default=False)]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="COLLECTION@NUMBER, such as faq@3.", show_default=False)
]
AnyVersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION", help="Such as faq@3, or faq/ranking@2 of `quarry tune`.", show_default=False
    ),
]
ReasonOption = Annotated[str, typer.Option(help="Kept in the history.")]
ByOption = Annotated[str, typer.Option(metavar="WHO", envvar="USER", help="Kept in the history.")]


class Kind(StrEnum):
    RERANKER = "reranker"
    ENCODER = "encoder"


@app.command("list")
def list_models(
    collection: CollectionFilter = "",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """List versions, newest first, with what their evaluation found."""
    with connect(server, timeout) as quarry:
        found = fetch_models(quarry, collection)
    _show_all(found, show_models, json)


@app.command("rankings")
def list_rankings(
    collection: CollectionFilter = "",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """List the ranking configurations that `quarry tune` made, newest first, with what was measured."""
    with connect(server, timeout) as quarry:
        found = fetch_rankings(quarry, collection)
    _show_all(found, show_rankings, json)


def _show_all(found: Sequence[M], show: Callable[[Sequence[M]], None], json: bool) -> None:
    if json:
        print_json([as_json(one) for one in found])
    else:
        show(found)


@app.command()
def show(
    version: AnyVersionArgument,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a version was made from, what was measured, and whether it serves."""
    if parse_ranking_name(version):
        _show_ranking(version, server, timeout, json)
        return
    with connect(server, timeout) as quarry:
        model = quarry.models.GetModel(pb.GetModelRequest(name=version)).model
    _show(model, json)


def _show_ranking(version: str, server: str | None, timeout: float | None, json: bool) -> None:
    with connect(server, timeout) as quarry:
        asked = pb.GetRankingRequest(name=version)
        ranking = quarry.models.GetRanking(asked).ranking
        boosts = read_boosts(quarry, ranking.collection)
    if json:
        print_json(as_json(ranking))
    else:
        show_ranking(ranking, boosts)


@app.command()
def promote(
    version: AnyVersionArgument,
    reason: ReasonOption = "",
    by: ByOption = "",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version serve. It is loaded beside the old one first; no search fails or waits."""
    if parse_ranking_name(version):
        _promote_ranking(version, reason, by, server, timeout, json)
        return
    request = pb.PromoteModelRequest(name=version, promoted_by=by, reason=reason, request_id=str(uuid4()))
    with connect(server, timeout, LOADING_S) as quarry:
        answer = quarry.models.PromoteModel(request)
    if json:
        print_json(as_json(answer))
        return
    before = answer.previous or "the fused order"
    out.print(f"{version} serves {answer.model.collection}, in place of {before}", soft_wrap=True)
    note(f"`quarry model rollback {answer.model.collection}` takes it back")


def _promote_ranking(
    version: str, reason: str, by: str, server: str | None, timeout: float | None, json: bool
) -> None:
    request = pb.PromoteRankingRequest(name=version, promoted_by=by, reason=reason, request_id=str(uuid4()))
    with connect(server, timeout) as quarry:
        answer = quarry.models.PromoteRanking(request)
    if json:
        print_json(as_json(answer))
        return
    before = answer.previous or "the defaults"
    name = answer.ranking.collection
    out.print(f"{version} merges the arms of {name}, in place of {before}", soft_wrap=True)
    note(f"`quarry tune {name} --rollback` takes it back")


@app.command()
def rollback(
    collection: CollectionArgument,
    reason: ReasonOption = "",
    by: ByOption = "",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Make what served before serve again; repeated, it goes back further."""
    request = pb.RollbackModelRequest(
        collection=collection, promoted_by=by, reason=reason, request_id=str(uuid4())
    )
    with connect(server, timeout, LOADING_S) as quarry:
        answer = quarry.models.RollbackModel(request)
    if json:
        print_json(as_json(answer))
        return
    now, before = answer.serving or "the fused order", answer.previous or "the fused order"
    out.print(f"{now} serves {collection} again, in place of {before}", soft_wrap=True)


@app.command()
def retire(
    version: VersionArgument,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Mark a version that does not serve as not to be used. Its files are deleted, its record stays."""
    with connect(server, timeout) as quarry:
        answer = quarry.models.RetireModel(pb.RetireModelRequest(name=version))
    if json:
        print_model(answer.model)
    else:
        out.print(f"{version} is retired", soft_wrap=True)


@app.command("import")
def import_model(
    collection: CollectionArgument,
    model: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_MODEL",
            help="An archive or a folder here, or what the server has or may fetch: a package, a version.",
            show_default=False,
        ),
    ],
    kind: Annotated[Kind | None, typer.Option(help="Default: what an archive says, else reranker.")] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Register a model made elsewhere: what `export` wrote, or a cross-encoder in Hugging Face's layout."""
    options = pb.ImportOptions(
        collection=collection,
        kind=pb.MODEL_KIND_UNSPECIFIED if kind is None else pb.ModelKind.Value(f"MODEL_KIND_{kind.name}"),
        source=model,
        description=description,
    )
    with connect(server, timeout, LOADING_S) as quarry:
        made = run_import(quarry, options)
    _show(made, json)
    if made.kind == pb.MODEL_KIND_RERANKER:
        note(f"next: quarry model promote {made.name}")
    else:
        note(f"next: quarry collection reindex {collection} --encoder {made.name}")


@app.command()
def export(
    version: VersionArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", dir_okay=False, show_default=False)],
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Write a version into an archive, for another server to import."""
    if not file.absolute().parent.is_dir():
        raise CliError(f"there is no folder {file.absolute().parent}")
    with connect(server, timeout, LOADING_S) as quarry:
        size = write_archive(quarry, version, file)
    if json:
        print_json({"version": version, "file": str(file), "bytes": size})
    else:
        out.print(f"{version} is in {file}, {size / 1e6:,.1f} MB", soft_wrap=True)


def _show(model: pb.Model, json: bool) -> None:
    if json:
        print_model(model)
    else:
        show_model(model)
