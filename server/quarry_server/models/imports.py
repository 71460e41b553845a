"""The stream of ImportModel: options, and maybe an archive, kept in a file until it is read."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from quarry.collections.collections import Collections
from quarry.errors import (
    ConflictingFieldsError,
    OutOfRangeError,
    RequiredError,
    UnknownValueError,
)
from quarry.registry.artefacts import make_copy_error
from quarry.registry.model_imports import ModelImportPlan
from quarry.registry.store import MAX_DESCRIPTION_BYTES
from quarry.training.spec import KindName
from quarry.v1 import model_service_pb2 as pb
from quarry_server.common.uploads import StreamForm, receive_file

_FORM = StreamForm("part", "options", "archive", "the archive has over {} bytes")

_KINDS: dict[int, KindName | None] = {
    pb.MODEL_KIND_UNSPECIFIED: None,
    pb.MODEL_KIND_RERANKER: "reranker",
    pb.MODEL_KIND_ENCODER: "encoder",
}


async def receive_import(
    requests: AsyncIterator[pb.ImportModelRequest],
    open_collections: Collections,
    archive: Path,
    most_bytes: int,
) -> ModelImportPlan:
    """Receives what the stream asks for; its archive, of at most ``most_bytes``, is written to ``archive``.

    Raises:
        InvalidArgumentError: the stream does not open with options, or holds no archive and no source.
        CollectionNotFoundError: there is no such collection.
        LimitExceededError: the archive, or the disk, is too large.
    """
    try:
        plan, size = await receive_file(
            requests, _FORM, partial(parse_options, open_collections=open_collections), archive, most_bytes
        )
    except OSError as error:
        raise make_copy_error(error) from error
    if bool(plan.source) == bool(size):
        if size:
            raise ConflictingFieldsError("options.source", "is there beside an archive")
        raise RequiredError("options.source", "is missing, and so is an archive")
    return plan


async def parse_options(options: pb.ImportOptions, open_collections: Collections) -> ModelImportPlan:
    """Raises InvalidArgumentError, its field below the options, or CollectionNotFoundError."""
    if options.kind not in _KINDS:
        raise UnknownValueError("options.kind", f"{options.kind} is not a ModelKind")
    size = len(options.description.encode())
    if size > MAX_DESCRIPTION_BYTES:
        problem = f"has {size} bytes, at most {MAX_DESCRIPTION_BYTES} are allowed"
        raise OutOfRangeError("options.description", problem)
    with open_collections.use(options.collection) as collection:
        name, key = collection.row.settings.name, collection.row.key
    return ModelImportPlan(name, key, _KINDS[options.kind], options.source, options.description)
