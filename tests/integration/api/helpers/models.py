"""Calls of ModelService, for tests of it."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.api.helpers.served import CALL_S, Api

from quarry.models.blend import Blend, write_blend
from quarry.testing import make_tiny_cross_encoder
from quarry.v1 import model_service_pb2 as pb
from quarry.v1.model_service_pb2_grpc import ModelServiceStub

BLEND = Blend(rerank=0.5, fused=2.0)
"""Of the second of two tiny re-rankers."""


class Models:
    """One server's ModelService."""

    def __init__(self, api: Api) -> None:
        self.api, self.stub = api, ModelServiceStub(api.channel)

    def imported(
        self, collection: str, source: object = "", archive: bytes = b"", **options: Any
    ) -> pb.Model:
        stream = import_stream(archive, collection=collection, source=str(source), **options)
        return self.stub.ImportModel(stream, timeout=CALL_S).model

    def exported(self, name: str) -> bytes:
        pieces = self.stub.ExportModel(pb.ExportModelRequest(name=name), timeout=CALL_S)
        return b"".join(piece.archive for piece in pieces)

    def get(self, name: str) -> pb.Model:
        return self.stub.GetModel(pb.GetModelRequest(name=name), timeout=CALL_S).model

    def names(self, collection: str = "") -> list[str]:
        found = self.stub.ListModels(pb.ListModelsRequest(collection=collection), timeout=CALL_S).models
        return [model.name for model in found]

    def promote(self, name: str, **settings: Any) -> pb.PromoteModelResponse:
        return self.stub.PromoteModel(pb.PromoteModelRequest(name=name, **settings), timeout=CALL_S)

    def rollback(self, collection: str, **settings: Any) -> pb.RollbackModelResponse:
        request = pb.RollbackModelRequest(collection=collection, **settings)
        return self.stub.RollbackModel(request, timeout=CALL_S)

    def retire(self, name: str) -> pb.Model:
        return self.stub.RetireModel(pb.RetireModelRequest(name=name), timeout=CALL_S).model


def import_stream(archive: bytes, **options: Any) -> Iterator[pb.ImportModelRequest]:
    yield pb.ImportModelRequest(options=pb.ImportOptions(**options))
    for start in range(0, len(archive), 2**16):
        yield pb.ImportModelRequest(archive=archive[start : start + 2**16])


def tiny_reranker(folder: Path, seed: int, blend: Blend | None = None) -> Path:
    make_tiny_cross_encoder(folder, seed)
    if blend is not None:
        write_blend(folder, blend)
    return folder


def tar_of(folder: Path, top: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, str(Path(top) / file.name))
    return buffer.getvalue()
