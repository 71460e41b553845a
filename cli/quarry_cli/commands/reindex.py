"""`quarry collection reindex`: another encoder, schema or passage policy, while searches go on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from rich.progress import TaskProgressColumn, TextColumn

from quarry.client import Client, QuarryCallError
from quarry.v1 import collection_service_pb2 as pb
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import as_json, make_progress, note, print_json
from quarry_cli.failures import CliError, check_outcome
from quarry_cli.inputs.schema_file import read_schema
from quarry_cli.views.collection import reindex_state, show_collection, show_estimate

PLANNING_S = 600.0
"""A server may export a model, and reads every document if a field changes its type, before it answers."""
CHANGES, ACTIONS = "What changes", "Instead of starting one"


def reindex(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Hub id, folder, package or COLLECTION@N; none.", rich_help_panel=CHANGES
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="TOML or JSON: the whole new schema.", rich_help_panel=CHANGES
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="Longest passage; 0: what the encoder reads.", rich_help_panel=CHANGES),
    ] = None,
    overlap_tokens: Annotated[
        int | None, typer.Option(min=0, help="Shared by neighbouring passages.", rich_help_panel=CHANGES)
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what it will cost.", rich_help_panel=ACTIONS)
    ] = False,
    pause: Annotated[
        bool, typer.Option("--pause", help="Stop the work, keep what is built.", rich_help_panel=ACTIONS)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where it was paused.", rich_help_panel=ACTIONS)
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End it, remove what is built.", rich_help_panel=ACTIONS)
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Back to what served before.", rich_help_panel=ACTIONS)
    ] = False,
    drop_previous: Annotated[
        bool,
        typer.Option("--drop-previous", help="Keep it no longer: no rollback.", rich_help_panel=ACTIONS),
    ] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Index a collection anew, with another encoder, schema or passage policy, while searches go on.

    The new indexes take over in one step when they hold every document. What served until then is kept
    for --rollback. Ctrl-C leaves the server at work; the same command without changes watches it again.
    """
    flags = {
        "--pause": pause, "--resume": resume, "--cancel": cancel, "--rollback": rollback,
        "--drop-previous": drop_previous,
    }  # fmt: skip
    actions = [flag for flag, given in flags.items() if given]
    changes = any(value is not None for value in (encoder, schema, max_tokens, overlap_tokens))
    if len(actions) + (changes or estimate) > 1:
        raise typer.BadParameter(f"{actions[0]} goes with no other change or action")
    with connect(server, timeout, PLANNING_S) as quarry:
        if changes or estimate:
            request = _make_request(quarry, name, encoder, schema, max_tokens, overlap_tokens)
            request.validate_only = estimate
            operation = quarry.collections.Reindex(request)
        elif actions and actions[0] in AT_ONCE:
            AT_ONCE[actions[0]](quarry, name)
            _show(read_collection(quarry, name), json)
            return
        else:
            operation = (_roll_back if rollback else _find_under_way)(quarry, name, resume)
        result = _read_result(_follow(quarry, operation, name))
    if not estimate:
        _show(result.collection, json)
    elif json:
        print_json(as_json(result.estimate))
    else:
        show_estimate(result.estimate)


def _make_request(
    quarry: Client,
    name: str,
    encoder: str | None,
    schema: Path | None,
    max_tokens: int | None,
    overlap_tokens: int | None,
) -> pb.ReindexRequest:
    """Makes the request; of the passages, what is not given stays as it is."""
    request = pb.ReindexRequest(name=name)
    if encoder is not None:
        request.encoder = encoder
    if schema is not None:
        request.schema.CopyFrom(read_schema(schema))
    if max_tokens is None and overlap_tokens is None:
        return request
    policy = request.passages
    policy.CopyFrom(read_collection(quarry, name).passages)
    if max_tokens is not None:
        policy.max_tokens = max_tokens
        if max_tokens:
            policy.overlap_tokens = min(policy.overlap_tokens, (max_tokens - 1) // 2)
    if overlap_tokens is not None:
        policy.overlap_tokens = overlap_tokens
    return request


def _pause(quarry: Client, name: str) -> None:
    quarry.collections.PauseReindex(pb.PauseReindexRequest(name=name))


def _drop_previous(quarry: Client, name: str) -> None:
    request = pb.DropPreviousGenerationRequest(name=name)
    quarry.collections.DropPreviousGeneration(request)


def _cancel(quarry: Client, name: str) -> None:
    """Raises CliError if it was too late."""
    operation = _find_under_way(quarry, name)
    quarry.cancel(operation)
    timeout = duration_pb2.Duration(seconds=int(quarry.timeout_s))
    wait = operations_pb2.WaitOperationRequest(name=operation.name, timeout=timeout)
    if quarry.operations.WaitOperation(wait).HasField("response"):
        hint = f"quarry collection reindex {name} --rollback"
        raise CliError("it was too late: the new indexes serve", hint)
    note("the reindex is cancelled, and what it had built is removed")


AT_ONCE = {"--pause": _pause, "--cancel": _cancel, "--drop-previous": _drop_previous}
"""What needs no waiting for an operation."""


def _roll_back(quarry: Client, name: str, _resume: bool) -> operations_pb2.Operation:
    request = pb.RollbackReindexRequest(name=name)
    return quarry.collections.RollbackReindex(request)


def _find_under_way(quarry: Client, name: str, resume: bool = False) -> operations_pb2.Operation:
    """Finds the reindex that is under way, resumed if that is asked. Raises CliError if there is none."""
    if resume:
        request = pb.ResumeReindexRequest(name=name)
        quarry.collections.ResumeReindex(request)
    status = read_collection(quarry, name).status
    if not status.HasField("reindex"):
        hint = "give what changes: --encoder, --schema, --max-tokens or --overlap-tokens"
        raise CliError(f"no reindex of {name} is under way", hint)
    return operations_pb2.Operation(name=status.reindex.operation)


def _follow(quarry: Client, operation: operations_pb2.Operation, name: str) -> operations_pb2.Operation:
    """Follows the operation until it has ended, under a progress bar. Interrupted, it goes on in the
    server."""
    with (
        _warn_of_running(name),
        make_progress(TaskProgressColumn(), TextColumn("{task.fields[said]}")) as bar,
    ):
        task = bar.add_task("reindexing", total=None, said="")

        def show(operation: operations_pb2.Operation) -> None:
            metadata = pb.ReindexMetadata()
            operation.metadata.Unpack(metadata)
            now = metadata.progress
            total = max(1, now.documents_total)
            bar.update(task, total=total, completed=now.documents_done, said=reindex_state(now))
            if now.state == pb.REINDEX_STATE_PAUSED and not operation.done:
                hint = f"quarry collection reindex {name} --resume"
                raise CliError("the reindex is paused", hint)

        return quarry.follow(operation, show)


@contextlib.contextmanager
def _warn_of_running(name: str) -> Iterator[None]:
    """Says what goes on when nobody watches any more."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"it goes on in the server: quarry collection reindex {name} --pause or --cancel stops it")
        raise
    except QuarryCallError:
        note(f"quarry collection reindex {name} watches it again")
        raise


def _read_result(operation: operations_pb2.Operation) -> pb.ReindexResponse:
    """Raises CliError if it failed."""
    check_outcome(operation, "the collection serves as before")
    result = pb.ReindexResponse()
    operation.response.Unpack(result)
    return result


def _show(collection: pb.Collection, json: bool) -> None:
    if json:
        print_json(as_json(collection))
    else:
        show_collection(collection)
