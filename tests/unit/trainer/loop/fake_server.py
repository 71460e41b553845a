"""A server that answers from memory, for turns of the loop."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import status_pb2
from tests.unit.training.samples import report as evaluation

from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    mining_service_pb2_grpc,
    model_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    training_service_pb2_grpc,
)
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb

TEXT = collection_service_pb2.SCHEMA_FIELD_TYPE_TEXT


class FakeServer(
    collection_service_pb2_grpc.CollectionServiceServicer,
    mining_service_pb2_grpc.MiningServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    search_service_pb2_grpc.SearchServiceServicer,
    training_service_pb2_grpc.TrainingServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    """Mines and trains at once, as it is told; its new model puts every answer upside down."""

    def __init__(self) -> None:
        self.mined: list[Any] = []
        self.trained: list[Any] = []
        self.searched: list[Any] = []
        self.unavailable = 0
        self.search_code: grpc.StatusCode | None = None
        self.errors: dict[str, status_pb2.Status] = {}
        self.set = mining_pb.MiningSet(
            name="faq-set", verdict=mining_pb.MINING_VERDICT_GOOD, pairs=4, coverage=1.0, rows=20
        )
        self.sets = {"faq-set": self.set}
        self.model = models_pb.Model(
            name="faq@2", collection="faq", kind=models_pb.MODEL_KIND_RERANKER,
            state=models_pb.MODEL_STATE_SERVING, verdict=models_pb.MODEL_VERDICT_IMPROVED, advice=["better"],
            lineage=models_pb.Lineage(compared_with="faq@1"),
            metrics=[models_pb.ModelMetric(measure="nDCG@10", slice="all", subject="difference", value=0.1,
                                           lower=0.05, upper=0.15, queries=40)],
            report_json=evaluation().model_dump_json(),
        )  # fmt: skip
        self.models: list[models_pb.Model] = []

    def GetCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        fields = [collection_service_pb2.SchemaField(name=name, type=TEXT) for name in ("text", "title")]
        schema = collection_service_pb2.Schema(fields=fields)
        found = collection_service_pb2.Collection(name="faq", schema=schema)
        return collection_service_pb2.GetCollectionResponse(collection=found)

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.searched.append(request)
        if self.search_code:
            context.abort(self.search_code, "not whole")
        places = range(3) if request.rerank.model else reversed(range(3))
        answer = search_service_pb2.SearchResponse()
        for place in places:
            document = answer.hits.add().document
            document.id = f"d{place}"
            if place:
                document.fields["title"].string_value = f"title {place}\n{'x' * 200}"
            else:
                document.fields["text"].string_value = "text 0"
        return answer

    def MineHardNegatives(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.unavailable:
            self.unavailable -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        self.mined.append(request)
        return operations_pb2.Operation(name="operations/mine-1")

    def GetMiningSet(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.name not in self.sets:
            context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return mining_pb.GetMiningSetResponse(mining_set=self.sets[request.name])

    def TrainReranker(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.trained.append(request)
        return operations_pb2.Operation(name="operations/train-reranker-1")

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        what = request.name.removeprefix("operations/").split("-")[0]
        operation = operations_pb2.Operation(name=request.name, done=True)
        if what in self.errors:
            operation.error.CopyFrom(self.errors[what])
        else:
            operation.response.Pack(self.set if what == "mine" else self.model)
        return operation

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        return models_pb.ListModelsResponse(models=self.models)

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> Any:
        (model,) = (one for one in self.models if one.name == request.name)
        return models_pb.GetModelResponse(model=model)


@contextmanager
def serve_fake() -> Iterator[tuple[FakeServer, str]]:
    """Yields the server and its address."""
    service = FakeServer()
    served = grpc.server(ThreadPoolExecutor(4))
    for add in (
        collection_service_pb2_grpc.add_CollectionServiceServicer_to_server,
        mining_service_pb2_grpc.add_MiningServiceServicer_to_server,
        model_service_pb2_grpc.add_ModelServiceServicer_to_server,
        search_service_pb2_grpc.add_SearchServiceServicer_to_server,
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server,
        operations_pb2_grpc.add_OperationsServicer_to_server,
    ):
        add(service, served)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    yield service, f"127.0.0.1:{port}"
    served.stop(None).wait()
