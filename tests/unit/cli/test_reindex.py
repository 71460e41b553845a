"""`quarry collection reindex` against a service that answers from memory."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2
from typer.testing import CliRunner, Result

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry_cli.main import app


class FakeReindex(
    collection_service_pb2_grpc.CollectionServiceServicer, operations_pb2_grpc.OperationsServicer
):
    """A collection with a reindex that ends when it is asked about for the second time.

    Attributes:
        state: what the reindex says it is at.
        endless: it never ends.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.running = False
        self.error: status_pb2.Status | None = None
        self.state = pb.REINDEX_STATE_BUILDING
        self.endless = False
        self.cancelled = False
        self.too_late = False
        self.waits = 0
        self.waiting = threading.Event()

    def _collection(self) -> pb.Collection:
        made = pb.Collection(
            name="faq", encoder="old", passages=pb.PassagePolicy(max_tokens=256, overlap_tokens=64)
        )
        if self.running:
            made.status.reindex.operation = "operations/reindex-1"
            made.status.reindex.progress.CopyFrom(self._progress())
        return made

    def _progress(self) -> pb.ReindexProgress:
        progress = pb.ReindexProgress(
            state=self.state, documents_done=50, documents_total=1_200, documents_per_second=10
        )
        progress.remaining.FromSeconds(115)
        return progress

    def GetCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.GetCollectionResponse(collection=self._collection())

    def Reindex(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        estimate = pb.ReindexEstimate(documents=1_200, passages=2_400, tokens=90_000, disk_bytes=5 * 2**20)
        estimate.duration.FromSeconds(3_700)
        if not request.validate_only:
            return operations_pb2.Operation(name="operations/reindex-1")
        operation = operations_pb2.Operation(done=True)
        operation.response.Pack(pb.ReindexResponse(collection=self._collection(), estimate=estimate))
        return operation

    def PauseReindex(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        self.running, self.state = True, pb.REINDEX_STATE_PAUSED
        return pb.PauseReindexResponse(collection=self._collection())

    def ResumeReindex(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        self.state = pb.REINDEX_STATE_BUILDING
        return pb.ResumeReindexResponse(collection=self._collection())

    def RollbackReindex(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return operations_pb2.Operation(name="operations/rollback-1")

    def DropPreviousGeneration(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return pb.DropPreviousGenerationResponse(collection=self._collection())

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.waits += 1
        self.waiting.set()
        done = (self.waits > 1 or self.cancelled) and not self.endless
        operation = operations_pb2.Operation(name=request.name, done=done)
        operation.metadata.Pack(pb.ReindexMetadata(collection="faq", progress=self._progress()))
        if done and (self.error or (self.cancelled and not self.too_late)):
            operation.error.CopyFrom(self.error or status_pb2.Status(code=1, message="cancelled"))
        elif done:
            operation.response.Pack(pb.ReindexResponse(collection=pb.Collection(name="faq", encoder="new")))
        return operation

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.cancelled = request.name == "operations/reindex-1"
        return empty_pb2.Empty()


@pytest.fixture
def fake() -> Iterator[tuple[FakeReindex, str]]:
    service = FakeReindex()
    server = grpc.server(ThreadPoolExecutor(4))
    collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(service, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None)


def call(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["collection", "reindex", "faq", *arguments, "--server", address])


def test_only_what_is_given_is_asked_for(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    ended = call(address, "--encoder", "new", "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["encoder"] == "new"
    assert service.requests == [pb.ReindexRequest(name="faq", encoder="new")]


def test_a_shorter_passage_keeps_the_rest_of_the_policy(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    assert call(address, "--max-tokens", "100").exit_code == 0
    assert service.requests[0].passages == pb.PassagePolicy(max_tokens=100, overlap_tokens=49)
    assert call(address, "--overlap-tokens", "10").exit_code == 0
    assert service.requests[1].passages == pb.PassagePolicy(max_tokens=256, overlap_tokens=10)


def test_an_estimate_starts_nothing_and_reads_well(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    ended = call(address, "--encoder", "new", "--estimate")
    assert service.requests == [pb.ReindexRequest(name="faq", encoder="new", validate_only=True)]
    assert "about 1 h 1 min" in ended.stdout
    assert "about 2,400" in ended.stdout
    assert json.loads(call(address, "--encoder", "new", "--estimate", "--json").stdout)["passages"] == "2400"


@pytest.mark.parametrize(
    ("action", "request_type"),
    [
        ("--pause", pb.PauseReindexRequest),
        ("--resume", pb.ResumeReindexRequest),
        ("--rollback", pb.RollbackReindexRequest),
        ("--drop-previous", pb.DropPreviousGenerationRequest),
    ],
)
def test_each_action_is_one_call(fake: tuple[FakeReindex, str], action: str, request_type: Any) -> None:
    service, address = fake
    service.running = True
    ended = call(address, action)
    assert ended.exit_code == 0, ended.output
    assert service.requests == [request_type(name="faq")]


def test_cancelling_waits_until_nothing_is_left(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    service.running = True
    ended = call(address, "--cancel")
    assert (ended.exit_code, service.cancelled) == (0, True)
    assert "what it had built is removed" in ended.output


def test_cancelling_too_late_says_how_to_go_back(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    service.running = service.too_late = True
    ended = call(address, "--cancel")
    assert ended.exit_code == 1
    assert "--rollback" in ended.output


def test_without_changes_the_one_under_way_is_watched(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    ended = call(address)
    assert ended.exit_code == 1
    assert "no reindex of faq is under way" in ended.output
    service.running = True
    assert call(address, "--json").exit_code == 0
    assert service.requests == []


def test_a_paused_reindex_is_not_waited_for(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    service.running, service.endless, service.state = True, True, pb.REINDEX_STATE_PAUSED
    ended = call(address)
    assert ended.exit_code == 1
    assert "--resume" in ended.output


def test_a_failed_reindex_says_that_nothing_has_changed(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    service.error = status_pb2.Status(code=9, message="the document 'odd' does not fit")
    ended = call(address, "--encoder", "new")
    assert ended.exit_code == 1
    assert "serves as before: FAILED_PRECONDITION: the document 'odd'" in ended.output


def test_an_action_goes_with_nothing_else(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    for extra in (["--resume"], ["--encoder", "new"], ["--estimate"]):
        assert call(address, "--pause", *extra).exit_code == 2
    assert service.requests == []


def test_an_interrupt_leaves_it_running(fake: tuple[FakeReindex, str], monkeypatch: Any) -> None:
    service, address = fake

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("quarry_cli.commands.reindex.reindex_state", interrupt)
    ended = call(address, "--encoder", "new")
    assert ended.exit_code == 130
    assert "goes on in the server" in ended.output
    assert not service.cancelled


def test_show_tells_of_a_reindex(fake: tuple[FakeReindex, str]) -> None:
    service, address = fake
    service.running = True
    ended = CliRunner().invoke(app, ["collection", "show", "faq", "--server", address])
    assert "building, 50 of 1,200 documents, 10/s, 1 min 55 s left" in ended.stdout
