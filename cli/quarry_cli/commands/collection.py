"""`quarry collection`: make, list, change, name, reindex, check and repair collections."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from google.longrunning import operations_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from quarry.client import Client
from quarry.v1 import collection_service_pb2
from quarry_cli.commands.reindex import reindex
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import as_json, count_things, make_plain, make_progress, note, out, print_json
from quarry_cli.failures import check_outcome
from quarry_cli.inputs.cascade import CascadeOption, parse_stages
from quarry_cli.inputs.lines import read_plain_text
from quarry_cli.inputs.promotion import PromotionOption, to_promotion_value
from quarry_cli.inputs.schema_file import read_schema
from quarry_cli.inputs.vocabulary_file import dump_synonyms, parse_stop_words, parse_synonyms
from quarry_cli.views.collection import show_aliases, show_collection, show_collections, show_consistency

POLL_S = 0.5
LIST_PAGE = 1_000

app = typer.Typer(no_args_is_help=True, help="Make, list, change, reindex, check and repair collections.")
aliases = typer.Typer(no_args_is_help=True, help="Give collections second names, and switch them.")
app.add_typer(aliases, name="alias")
NameArgument = Annotated[str, typer.Argument(help="The collection.", show_default=False)]


@app.command()
def create(
    name: NameArgument,
    schema: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML or JSON: fields, unknown_fields.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(metavar="MODEL", help="Package, or what the server allows; none: BM25 only.")
    ] = "",
    reranker: Annotated[str, typer.Option(metavar="MODEL", help="Cross-encoder that re-ranks.")] = "",
    cascade: CascadeOption = None,
    promotion: PromotionOption = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Make an empty collection. Without a schema, `title` and `text` are searched."""
    wanted = collection_service_pb2.Collection(
        name=name,
        schema=None if schema is None else read_schema(schema),
        encoder=encoder,
        reranker=reranker,
        cascade=parse_stages(cascade or ()),
        promotion=to_promotion_value(promotion),
        description=description,
    )
    request = collection_service_pb2.CreateCollectionRequest(collection=wanted, request_id=str(uuid4()))
    with connect(server, timeout, default_timeout_s=300) as quarry:  # a first use exports the model
        made = quarry.collections.CreateCollection(request).collection
    _show(made, json)
    note(f"next: quarry index {name} FILE")


@app.command("list")
def list_collections(
    server: ServerOption = None, timeout: TimeoutOption = None, json: JsonOption = False
) -> None:
    """List all collections."""
    request = collection_service_pb2.ListCollectionsRequest(page_size=LIST_PAGE)
    with connect(server, timeout) as quarry:
        pages = quarry.pages(quarry.collections.ListCollections, request)
        found = [collection for page in pages for collection in page.collections]
    if json:
        print_json([as_json(collection) for collection in found])
    else:
        show_collections(found)


@app.command()
def show(
    name: NameArgument, server: ServerOption = None, timeout: TimeoutOption = None, json: JsonOption = False
) -> None:
    """Show a collection's settings and state."""
    with connect(server, timeout) as quarry:
        _show(read_collection(quarry, name), json)


@app.command()
def update(
    name: NameArgument,
    reranker: Annotated[
        str | None, typer.Option(metavar="MODEL", help='Cross-encoder that re-ranks; "": none.')
    ] = None,
    unproven: Annotated[
        bool,
        typer.Option("--unproven", help="Take a re-ranker, or a stage, that no verdict IMPROVED speaks for."),
    ] = False,
    cascade: CascadeOption = None,
    promotion: PromotionOption = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Change what needs no new index: the re-ranker, the cascade (--cascade "": none), who promotes, and the
    description."""
    given = {
        "reranker": reranker,
        "cascade": cascade or None,
        "promotion": promotion,
        "description": description,
    }
    mask = FieldMask(paths=[key for key, value in given.items() if value is not None])
    if not mask.paths:
        raise typer.BadParameter("nothing to change: give --reranker, --cascade, --promotion, --description")
    request = collection_service_pb2.UpdateCollectionRequest(
        collection=collection_service_pb2.Collection(
            name=name,
            reranker=reranker or "",
            cascade=parse_stages(cascade or ()),
            promotion=to_promotion_value(promotion),
            description=description or "",
        ),
        update_mask=mask,
        unproven=unproven,
    )
    with connect(server, timeout, default_timeout_s=300) as quarry:
        _show(quarry.collections.UpdateCollection(request).collection, json)


@app.command()
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Delete a collection with its documents and indexes. There is no undo."""
    with connect(server, timeout) as quarry:
        count = read_collection(quarry, name).status.document_count
        if not yes:
            typer.confirm(f"Delete {name} and its {count:,} documents?", abort=True, err=True)
        request = collection_service_pb2.DeleteCollectionRequest(name=name)
        quarry.collections.DeleteCollection(request)
    out.print(f"deleted {name} and its {count:,} documents", soft_wrap=True)


@app.command()
def check(
    name: NameArgument, server: ServerOption = None, timeout: TimeoutOption = None, json: JsonOption = False
) -> None:
    """Compare each arm with the document log. Exit status 1 if they differ."""
    request = collection_service_pb2.CheckConsistencyRequest(name=name)
    with connect(server, timeout, default_timeout_s=600) as quarry:
        answer = quarry.collections.CheckConsistency(request)
    if json:
        print_json(as_json(answer))
    else:
        show_consistency(answer)
    if not answer.consistent:
        raise typer.Exit(1)


@app.command()
def repair(
    name: NameArgument, server: ServerOption = None, timeout: TimeoutOption = None, json: JsonOption = False
) -> None:
    """Apply to each arm what differs from the document log, and wait for it."""
    request = collection_service_pb2.RepairCollectionRequest(name=name)
    with connect(server, timeout) as quarry:
        operation = quarry.collections.RepairCollection(request)
        operation = _wait_until_done(quarry, operation)
    check_outcome(operation, "the repair failed")
    result = collection_service_pb2.RepairCollectionResponse()
    operation.response.Unpack(result)
    if json:
        print_json(as_json(result))
    else:
        out.print("Found:", style="bold")
        show_consistency(result.found)
        out.print("Afterwards:", style="bold")
        show_consistency(result.after)
    if not result.after.consistent:
        raise typer.Exit(1)


app.command()(reindex)

AliasArgument = Annotated[str, typer.Argument(help="The alias.", show_default=False)]


@aliases.command("set")
def set_alias(
    alias: AliasArgument,
    name: NameArgument,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Make an alias, or point it at another collection, at once. It can stand wherever a collection's name
    can."""
    request = collection_service_pb2.SetAliasRequest(name=alias, collection=name)
    with connect(server, timeout) as quarry:
        answer = quarry.collections.SetAlias(request)
    if json:
        print_json(as_json(answer))
        return
    before = answer.previous_collection
    was = f" (before: {before})" if before not in ("", answer.current.collection) else ""
    out.print(f"{answer.current.name} names {answer.current.collection}{was}", soft_wrap=True)


@aliases.command("list")
def list_aliases(
    server: ServerOption = None, timeout: TimeoutOption = None, json: JsonOption = False
) -> None:
    """List all aliases."""
    request = collection_service_pb2.ListAliasesRequest(page_size=LIST_PAGE)
    with connect(server, timeout) as quarry:
        pages = quarry.pages(quarry.collections.ListAliases, request)
        found = [alias for page in pages for alias in page.aliases]
    if json:
        print_json([as_json(alias) for alias in found])
    else:
        show_aliases(found)


@aliases.command("delete")
def delete_alias(alias: AliasArgument, server: ServerOption = None, timeout: TimeoutOption = None) -> None:
    """Delete an alias. Its collection stays."""
    with connect(server, timeout) as quarry:
        quarry.collections.DeleteAlias(collection_service_pb2.DeleteAliasRequest(name=alias))
    out.print(f"deleted the alias {alias}", soft_wrap=True)


@app.command("synonyms")
def set_synonyms(
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="One rule a line: `car, auto` (each finds the other) or `pc => computer` (one way); at most "
            "10,000.",
            show_default=False,
        ),
    ] = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Give a collection the synonyms of FILE instead of those that it has; without FILE, print those.

    They hold from the next search on. An empty file takes all away.
    """
    vocabulary = None
    if file is not None:
        try:
            rules = list(parse_synonyms(read_plain_text(file)))
        except ValueError as error:
            raise typer.BadParameter(f"{file}: {error}") from None
        vocabulary = collection_service_pb2.Vocabulary(synonyms=rules)
    known = _set_or_get(name, "synonyms", vocabulary, server, timeout)
    if json:
        print_json(as_json(known))
    elif file is not None:
        out.print(f"{name} has {count_things(len(known.synonyms), 'rule')} of synonyms", soft_wrap=True)
    else:
        _print_lines(dump_synonyms(known.synonyms))


@app.command("stop-words")
def set_stop_words(
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="A word on each line.", show_default=False),
    ] = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Give a collection the stop words of FILE instead of those that it has; without FILE, print those.

    They hold from the next search on. An empty file takes all away. Those of the language stay.
    """
    vocabulary = None
    if file is not None:
        words = parse_stop_words(read_plain_text(file))
        vocabulary = collection_service_pb2.Vocabulary(stop_words=words)
    known = _set_or_get(name, "stop_words", vocabulary, server, timeout)
    if json:
        print_json(as_json(known))
    elif file is not None:
        out.print(f"{name} has {count_things(len(known.stop_words), 'stop word')}", soft_wrap=True)
    else:
        _print_lines(known.stop_words)


def _wait_until_done(quarry: Client, operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """Waits until the operation is done, under a progress bar. Interrupted, it goes on in the server."""
    with make_progress() as bar:
        task = bar.add_task("repairing", total=100)

        def show(operation: operations_pb2.Operation) -> None:
            metadata = collection_service_pb2.RepairCollectionMetadata()
            if operation.metadata.Unpack(metadata):
                bar.update(task, completed=100 * metadata.progress)

        return quarry.follow(operation, show)


def _show(collection: collection_service_pb2.Collection, json: bool) -> None:
    if json:
        print_json(as_json(collection))
    else:
        show_collection(collection)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(make_plain(line), soft_wrap=True)


def _set_or_get(
    name: str,
    part: str,
    vocabulary: collection_service_pb2.Vocabulary | None,
    server: str | None,
    timeout: float | None,
) -> collection_service_pb2.Vocabulary:
    with connect(server, timeout) as quarry:
        if vocabulary is None:
            get = collection_service_pb2.GetVocabularyRequest(collection=name)
            return quarry.collections.GetVocabulary(get).vocabulary
        put = collection_service_pb2.SetVocabularyRequest(
            collection=name, vocabulary=vocabulary, update_mask=FieldMask(paths=[part])
        )
        return quarry.collections.SetVocabulary(put).vocabulary
