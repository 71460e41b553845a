"""A small Quarry in memory behind a real channel, and a way to call the command line against it."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from typer.testing import CliRunner

from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
)
from quarry_cli.main import app


def abort(context: grpc.ServicerContext, code: int, message: str, reason: str, field: str = "") -> None:
    status = status_pb2.Status(code=code, message=message)
    for detail in [
        error_details_pb2.ErrorInfo(reason=reason, domain="quarry"),
        *(
            [
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=field, description="is wrong")
                    ]
                )
            ]
            if field
            else []
        ),
    ]:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


class FakeQuarry(
    collection_service_pb2_grpc.CollectionServiceServicer,
    document_service_pb2_grpc.DocumentServiceServicer,
    search_service_pb2_grpc.SearchServiceServicer,
    server_service_pb2_grpc.ServerServiceServicer,
    operations_pb2_grpc.OperationsServicer,
    health_pb2_grpc.HealthServicer,
):
    """Keeps what it is sent, and answers what a test has put into ``runs``.

    Attributes:
        broken_after: batches written after which the stream breaks before their acknowledgement.
        always_breaks: acknowledge nothing, break instead.
        breaks_for_good_after: batches written after which nothing is acknowledged any more; 0: never so.
        refused: ids that are not written.
        silent: acknowledge nothing.
        runs: ranked document ids by arm (``fused`` and ``reranked`` too) and query text.
        relevance: of hits, by document id.
        warnings: that come with each acknowledged batch.
        encoding: of large documents of the dense arm: sequence number and how many looks it still takes.
    """

    def __init__(self) -> None:
        self.address = ""
        self.collections: dict[str, Any] = {}
        self.documents: dict[tuple[str, str], Any] = {}
        self.batches: list[Any] = []
        self.requests: list[Any] = []
        self.streams = 0
        self.written: dict[str, int] = {}
        self.relevance: dict[str, float] = {}
        self.sequence = 0
        self.broken_after: set[int] = set()
        self.refused: dict[str, str] = {}
        self.silent = False
        self.always_breaks = False
        self.breaks_for_good_after = 0
        self.runs: dict[str, dict[str, list[str]]] = {}
        self.failing_arm = ""
        self.response: Any = None
        self.polls = 0
        self.consistent = True
        self.lag = 0
        self.encoding: list[tuple[int, int]] = []
        self.warnings: list[Any] = []
        self.aliases: dict[str, str] = {}

    def find(self, name: str, context: grpc.ServicerContext) -> Any:
        if name not in self.collections:
            abort(context, code_pb2.NOT_FOUND, f"no collection is called {name!r}", "COLLECTION_NOT_FOUND")
        return self.collections[name]

    def CreateCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        if request.collection.name in self.collections:
            abort(context, code_pb2.ALREADY_EXISTS, "there is one already", "ALREADY_EXISTS")
        if not request.collection.name.islower():
            abort(context, code_pb2.INVALID_ARGUMENT, "bad name", "INVALID_ARGUMENT", "collection.name")
        self.collections[request.collection.name] = request.collection
        return collection_service_pb2.CreateCollectionResponse(collection=request.collection)

    def GetCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        collection = self.find(request.name, context)
        self.lag = max(0, self.lag - 1)
        del collection.status.arms[:]
        collection.status.last_sequence = self.sequence
        collection.status.document_count = len(self.documents)
        for arm, lag in (("bm25", 0), ("dense", self.lag)):
            stuck = arm == self.failing_arm
            applied = 0 if stuck else self.sequence - lag
            error = "its process ended" if stuck else ""
            added = collection.status.arms.add(arm=arm, applied_sequence=applied, error=error)
            added.reached_sequence = applied
            if arm == "dense":
                self.encoding = [(sequence, looks - 1) for sequence, looks in self.encoding if looks > 0]
                for sequence, looks in self.encoding:
                    added.applied_sequence = min(added.applied_sequence, sequence - 1)
                    added.encoding.add(sequence=sequence, passages_done=100 - looks, passages_total=100)
        return collection_service_pb2.GetCollectionResponse(collection=collection)

    def ListCollections(self, request: Any, context: grpc.ServicerContext) -> Any:
        names = sorted(self.collections)
        start = int(request.page_token or 0)
        return collection_service_pb2.ListCollectionsResponse(
            collections=[self.collections[name] for name in names[start : start + 1]],
            next_page_token=str(start + 1) if start + 1 < len(names) else "",
        )

    def UpdateCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return collection_service_pb2.UpdateCollectionResponse(collection=request.collection)

    def DeleteCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        del self.collections[request.name]
        return collection_service_pb2.DeleteCollectionResponse()

    def CheckConsistency(self, request: Any, context: grpc.ServicerContext) -> Any:
        differing = collection_service_pb2.Differences(count=2, sample_ids=["a", "b"])
        return collection_service_pb2.CheckConsistencyResponse(
            consistent=self.consistent,
            arms=[
                collection_service_pb2.ArmDifferences(
                    arm="bm25", missing=None if self.consistent else differing
                )
            ],
        )

    def RepairCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        return operations_pb2.Operation(name="operations/1")

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.polls += 1
        operation = operations_pb2.Operation(name=request.name, done=self.polls == 2)
        if operation.done:
            operation.response.Pack(
                collection_service_pb2.RepairCollectionResponse(
                    found=collection_service_pb2.CheckConsistencyResponse(consistent=False),
                    after=collection_service_pb2.CheckConsistencyResponse(consistent=True),
                )
            )
        return operation

    def UpsertDocuments(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self.streams += 1
        collection = next(requests).config.collection
        self.find(collection, context)
        for request in requests:
            response = self.write(collection, request.batch)
            if self.silent:
                for _ in requests:
                    pass
                return
            gone = 0 < self.breaks_for_good_after < len(self.written)
            if self.always_breaks or gone or len(self.written) in self.broken_after:
                self.broken_after.discard(len(self.written))
                abort(context, code_pb2.UNAVAILABLE, "shutting down", "UNAVAILABLE")
            yield response

    def write(self, collection: str, batch: Any) -> Any:
        self.batches.append(batch)
        first_time = batch.request_id not in self.written
        self.written[batch.request_id] = self.written.get(batch.request_id, 0) + 1
        response = document_service_pb2.UpsertDocumentsResponse()
        for document in batch.documents:
            status = response.statuses.add(id=document.id)
            if document.id in self.refused:
                status.status.code = code_pb2.INVALID_ARGUMENT
                status.status.message = self.refused[document.id]
            elif first_time:
                self.sequence += 1
                self.documents[collection, document.id] = document
        response.result.sequence = self.sequence
        response.warnings.extend(self.warnings)
        return response

    def GetDocument(self, request: Any, context: grpc.ServicerContext) -> Any:
        if (request.collection, request.id) not in self.documents:
            abort(context, code_pb2.NOT_FOUND, f"no document {request.id!r}", "DOCUMENT_NOT_FOUND")
        document = self.documents[request.collection, request.id]
        return document_service_pb2.GetDocumentResponse(document=document)

    def BatchDeleteDocuments(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = document_service_pb2.BatchDeleteDocumentsResponse()
        for id in request.ids:
            found = self.documents.pop((request.collection, id), None)
            response.statuses.add(id=id).status.code = code_pb2.OK if found else code_pb2.NOT_FOUND
        return response

    def UpdateDocumentsByFilter(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return self.response

    def DeleteDocumentsByFilter(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return document_service_pb2.DeleteDocumentsByFilterResponse(deleted_count=7)

    def SetAlias(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.find(request.collection, context)
        before, self.aliases[request.name] = self.aliases.get(request.name, ""), request.collection
        alias = collection_service_pb2.Alias(name=request.name, collection=request.collection)
        return collection_service_pb2.SetAliasResponse(current=alias, previous_collection=before)

    def ListAliases(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = [
            collection_service_pb2.Alias(name=name, collection=self.aliases[name])
            for name in sorted(self.aliases)
        ]
        return collection_service_pb2.ListAliasesResponse(aliases=found)

    def DeleteAlias(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.aliases.pop(request.name, None) is None:
            abort(context, code_pb2.NOT_FOUND, "no alias is called so", "ALIAS_NOT_FOUND")
        return collection_service_pb2.DeleteAliasResponse()

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        if isinstance(self.response, search_service_pb2.SearchResponse):
            return self.response
        run = "fused" if request.rerank.disabled else "reranked"
        response = search_service_pb2.SearchResponse()
        for rank, id in enumerate(self.runs.get(run, {}).get(request.query, []), 1):
            response.hits.add(rank=rank, relevance=self.relevance.get(id)).document.id = id
        return response

    def Retrieve(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        response = search_service_pb2.RetrieveResponse()
        for query in request.queries:
            result = response.results.add(query_id=query.id)
            for name in ("bm25", "dense"):
                if name in self.runs:
                    arm = result.arms.add(arm=name)
                    arm.status.code = code_pb2.UNAVAILABLE if name == self.failing_arm else code_pb2.OK
                    for rank, id in enumerate(self.runs[name].get(query.text, []), 1):
                        arm.candidates.add(document_id=id, rank=rank, score=1.0)  # ties: only ranks count
        return response

    def GetServerInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return server_service_pb2.GetServerInfoResponse(version="9.9", default_encoder="tiny", device="cpu")

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def quarry() -> Iterator[FakeQuarry]:
    fake = FakeQuarry()
    server = grpc.server(ThreadPoolExecutor(8))
    for register in (
        collection_service_pb2_grpc.add_CollectionServiceServicer_to_server,
        document_service_pb2_grpc.add_DocumentServiceServicer_to_server,
        search_service_pb2_grpc.add_SearchServiceServicer_to_server,
        server_service_pb2_grpc.add_ServerServiceServicer_to_server,
        operations_pb2_grpc.add_OperationsServicer_to_server,
        health_pb2_grpc.add_HealthServicer_to_server,
    ):
        register(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    server.stop(grace=None).wait()


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(quarry: FakeQuarry, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs a command line against the fake."""
    monkeypatch.setenv("QUARRY_SERVER", quarry.address)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, input: str | None = None) -> Ended:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run
