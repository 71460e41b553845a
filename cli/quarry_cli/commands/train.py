"""`quarry train`: a re-ranker or an encoder from examples, and whether it is better than what serves."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quarry.training.spec import DEFAULT_FORM, DEFAULT_JOINT_LAYERS, DEFAULT_LOSS, DEFAULT_PRETRAINING_QUERIES
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.training import promote_version, run_training, upload
from quarry_cli.commands.mine import QrelsOption, QueriesOption, read_judged_queries
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.failures import CliError
from quarry_cli.views.training import IMPROVED, name_verdict, print_model, show_model

CALL_S = 120.0
"""A server may fetch the base from the hub before it answers."""
FAILED = 1


class TrainedKind(StrEnum):
    RERANKER = "reranker"
    ENCODER = "encoder"


class FormOption(StrEnum):
    SPLIT = "split"
    LATE = "late"
    CROSS = "cross"


class Loss(StrEnum):
    LCE = "lce"
    BCE = "bce"
    RANKNET = "ranknet"
    LAMBDA = "lambda"
    MARGIN_TRIPLET = "margin-triplet"


def train(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    examples: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Parquet file that `quarry mine` wrote."),
    ] = None,
    mining_set: Annotated[
        str | None, typer.Option(metavar="SET", help="A mining set of the server, instead of a file.")
    ] = None,
    pretrain_on: Annotated[
        list[str] | None,
        typer.Option(metavar="COLLECTION", help="Train on a collection's documents alone. May be repeated."),
    ] = None,
    max_queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help=f"Queries to make with --pretrain-on. Default: {DEFAULT_PRETRAINING_QUERIES:,}.",
        ),
    ] = None,
    kind: Annotated[TrainedKind, typer.Option(help="The kind of model to train.")] = TrainedKind.RERANKER,
    base: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="To start from. Default: what serves, else the server's base_reranker, else the encoder.",
        ),
    ] = "",
    joint_layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Layers that read both texts, with --form split. Default: {DEFAULT_JOINT_LAYERS}.",
        ),
    ] = None,
    form: Annotated[
        FormOption | None,
        typer.Option(
            help="What is made of an encoder: late interaction, a split or an ordinary cross-encoder. "
            f"Default: what serves has, else {DEFAULT_FORM}."
        ),
    ] = None,
    loss: Annotated[Loss | None, typer.Option(help=f"Of a re-ranker. Default: {DEFAULT_LOSS}.")] = None,
    steps: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000_000,
            help="0: 200 for late interaction, one epoch of any other form, 50 to 1,000.",
        ),
    ] = 0,
    max_tokens: Annotated[
        int | None, typer.Option(min=16, help="Longest passage. Default: 128, or the model's limit.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and data, same model.")] = 0,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, max=0.1, help="Default: what suits the model.")
    ] = None,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    description: Annotated[str, typer.Option(help="Kept with the version.")] = "",
    promote: Annotated[
        bool, typer.Option("--promote", help="Make it serve at once if it is IMPROVED, without cautions.")
    ] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Train a re-ranker, or the encoder, and compare it with what serves.

    Examples come from `quarry mine`. The model is held to queries that it was not trained on: a part of the
    examples', or those of --queries and --qrels. Status 1 if no model comes of it.
    """
    sources = [given for given in (examples, mining_set, pretrain_on) if given]
    if len(sources) != 1:
        raise CliError("one of --examples, --mining-set and --pretrain-on says what to train on")
    common = {
        "collection": name,
        "base": base,
        "steps": steps,
        "max_tokens": max_tokens or 0,
        "seed": seed,
        "learning_rate": learning_rate or 0.0,
        "judgments": read_judged_queries(queries, qrels),
        "description": description,
    }
    request: pb.TrainRerankerRequest | pb.TrainEncoderRequest
    if kind is TrainedKind.ENCODER:
        if pretrain_on or form or joint_layers or loss or promote:
            raise CliError(
                "--pretrain-on, --form, --joint-layers, --loss and --promote are for re-rankers",
                "`quarry collection reindex` makes an encoder serve",
            )
        request = pb.TrainEncoderRequest(**common)  # type: ignore[arg-type]
    else:
        request = pb.TrainRerankerRequest(
            form=pb.RerankerForm.Value(f"RERANKER_FORM_{form.name if form else 'UNSPECIFIED'}"),
            joint_layers=joint_layers or 0,
            loss=pb.TrainingLoss.Value(f"TRAINING_LOSS_{(loss or Loss(DEFAULT_LOSS)).name}"),
            **common,  # type: ignore[arg-type]
        )
        if pretrain_on:
            request.document_pretraining.collections.extend(pretrain_on)
            request.document_pretraining.max_queries = max_queries or 0
    if max_queries and not pretrain_on:
        raise CliError("--max-queries is for --pretrain-on")
    with connect(server, timeout, default_timeout_s=CALL_S) as quarry:
        if examples:
            request.examples = upload(quarry, examples)
        elif mining_set:
            request.mining_set = mining_set
        made = run_training(quarry, request)
        proven = name_verdict(made) == IMPROVED and not made.cautions
        if promote and proven and made.state != models_pb.MODEL_STATE_SERVING:
            made = promote_version(quarry, made)
    serves = made.state == models_pb.MODEL_STATE_SERVING
    if json:
        print_model(made, serves)
    else:
        show_model(made, serves)
    if not made.name:
        raise typer.Exit(FAILED)
