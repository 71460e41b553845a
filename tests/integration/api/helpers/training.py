"""Calls of TrainingService and ModelService, for tests of them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from tests.integration.api.helpers.mining import failure_of
from tests.integration.api.helpers.served import CALL_S, Api, Failure

from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry.v1.model_service_pb2_grpc import ModelServiceStub
from quarry.v1.training_service_pb2_grpc import TrainingServiceStub

JOB_S = 240.0


class Training:
    """One server's TrainingService, and the registry that it fills."""

    def __init__(self, api: Api) -> None:
        self.api, self.stub = api, TrainingServiceStub(api.channel)
        self.models = ModelServiceStub(api.channel)

    def upload(self, data: bytes, piece: int = 1_000) -> str:
        pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        requests = [pb.UploadExamplesRequest(parquet=piece) for piece in pieces]
        return self.stub.UploadExamples(iter(requests), timeout=CALL_S).examples

    def start(self, collection: str, **settings: Any) -> operations_pb2.Operation:
        request = pb.TrainRerankerRequest(collection=collection, **settings)
        return self.stub.TrainReranker(request, timeout=CALL_S)

    def wait(self, operation: operations_pb2.Operation, seconds: float = JOB_S) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(
            name=operation.name, timeout=duration_pb2.Duration(seconds=int(seconds))
        )
        return self.api.operations.WaitOperation(request, timeout=seconds + CALL_S)

    def made(self, operation: operations_pb2.Operation) -> models_pb.Model:
        """What a training gives."""
        operation = self.wait(operation)
        assert operation.done
        assert not operation.HasField("error"), operation.error
        model = models_pb.Model()
        assert operation.response.Unpack(model)
        return model

    def trained(self, collection: str, **settings: Any) -> models_pb.Model:
        return self.made(self.start(collection, **settings))

    def failed(self, collection: str, **settings: Any) -> Failure:
        return failure_of(self.wait(self.start(collection, **settings)))

    def metadata(self, operation: operations_pb2.Operation) -> pb.TrainingMetadata:
        request = operations_pb2.GetOperationRequest(name=operation.name)
        found = pb.TrainingMetadata()
        assert self.api.operations.GetOperation(request, timeout=CALL_S).metadata.Unpack(found)
        return found

    def cancel(self, operation: operations_pb2.Operation) -> None:
        request = operations_pb2.CancelOperationRequest(name=operation.name)
        self.api.operations.CancelOperation(request, timeout=CALL_S)

    def names(self, collection: str) -> list[str]:
        request = models_pb.ListModelsRequest(collection=collection)
        return [model.name for model in self.models.ListModels(request, timeout=CALL_S).models]


def examples_file(path: Path, rows: list[tuple[str, str, str, str]], weight: float = 1.0) -> bytes:
    """A file of (query id, query, positive, negative); its bytes."""
    names = ("query_id", "query", "positive_id", "negative_id")
    columns: dict[str, Any] = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    columns["label"] = pa.array([0] * len(rows), pa.int8())
    columns["weight"] = pa.array([weight] * len(rows), pa.float32())
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()


def path_with_fakes() -> str:
    """``PYTHONPATH`` for jobs that pretend: their modules lie here, what they import is what is tested."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(Path(__file__).parent), *filter(None, known)])


def until(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.01)
    return found
