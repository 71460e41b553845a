"""Calls of TrainingService: examples sent, an operation followed to its end, a version promoted."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import grpc
from google.longrunning import operations_pb2

from quarry.client import Client, QuarryCallError
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.operations import run_operation
from quarry_cli.failures import name_file

PROMOTER, TUNER = "quarry train --promote", "quarry tune"
_MINUTE_S = 60

Version = TypeVar("Version", models_pb.Model, models_pb.Ranking)


def upload(quarry: Client, path: Path) -> str:
    """Uploads the file, and returns the name that the server gives to it. Raises CliError if it cannot be
    read."""
    with name_file(path):
        return quarry.upload_examples(path)


def run_training(
    quarry: Client, request: pb.TrainRerankerRequest | pb.TrainEncoderRequest
) -> models_pb.Model:
    """Trains as the request asks, under a progress bar; returns a version without a name if no model came of
    it.

    Interrupted, the operation is cancelled. Raises CliError if it fails.
    """
    if isinstance(request, pb.TrainRerankerRequest):
        operation = quarry.training.TrainReranker(request)
    else:
        operation = quarry.training.TrainEncoder(request)
    return run_operation(quarry, operation, "training", describe_progress, models_pb.Model())


def promote_version(quarry: Client, made: models_pb.Model) -> models_pb.Model:
    """Promotes a version and returns it; if something else serves meanwhile, the advice says so."""
    request = models_pb.PromoteModelRequest(name=made.name, promoted_by=PROMOTER, if_unchanged=True)
    return _promote_or_advise(made, lambda: quarry.models.PromoteModel(request).model)


def promote_ranking(quarry: Client, made: models_pb.Ranking) -> models_pb.Ranking:
    """Promotes a ranking configuration as ``promote_version`` does a model."""
    request = models_pb.PromoteRankingRequest(name=made.name, promoted_by=TUNER, if_unchanged=True)
    return _promote_or_advise(made, lambda: quarry.models.PromoteRanking(request).ranking)


def _promote_or_advise(made: Version, promote: Callable[[], Version]) -> Version:
    """Returns what ``promote`` does; if the server refuses, ``made`` with the reason as advice."""
    try:
        return promote()
    except QuarryCallError as error:
        if error.code is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
        told = f"it is not promoted: {error.message}"
        if told not in made.advice:  # the server's policy may have tried before
            made.advice.append(told)
        return made


def describe_progress(operation: operations_pb2.Operation) -> tuple[float, str]:
    """Tells how far a training is, and its stage, step, loss and time left."""
    metadata = pb.TrainingMetadata()
    operation.metadata.Unpack(metadata)
    parts = [metadata.stage]
    if metadata.steps:
        parts.append(f"step {metadata.step:,}/{metadata.steps:,}")
    if metadata.step:
        parts.append(f"loss {metadata.loss:.4g}")
    if metadata.HasField("development_ndcg"):
        parts.append(f"nDCG@10 {metadata.development_ndcg:.3f}")
    if metadata.HasField("eta"):
        parts.append(f"{format_duration(metadata.eta.seconds)} left")
    return metadata.progress, "  ".join(parts)


def format_duration(seconds: int) -> str:
    """Formats seconds as ``1:02:03``, ``2:03`` or ``0:03``."""
    minutes, seconds = divmod(max(0, seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
