"""Calls of TrainingService about the loop, for tests of it."""

from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from tests.integration.api.helpers.mining import failure_of
from tests.integration.api.helpers.served import CALL_S, Api, Failure

from quarry.v1 import training_service_pb2 as pb
from quarry.v1.training_service_pb2_grpc import TrainingServiceStub

TURN_S = 280.0


class Loop:
    """One server's loop."""

    def __init__(self, api: Api) -> None:
        self.api, self.stub = api, TrainingServiceStub(api.channel)

    def start(self, collection: str, **settings: Any) -> operations_pb2.Operation:
        request = pb.RunLoopRequest(collection=collection, **settings)
        return self.stub.RunLoop(request, timeout=CALL_S)

    def wait(self, operation: operations_pb2.Operation, seconds: float = TURN_S) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(
            name=operation.name, timeout=duration_pb2.Duration(seconds=int(seconds))
        )
        return self.api.operations.WaitOperation(request, timeout=TURN_S + CALL_S)

    def made(self, operation: operations_pb2.Operation) -> pb.LoopReport:
        """What a turn gives."""
        operation = self.wait(operation)
        assert operation.done
        assert not operation.HasField("error"), operation.error
        report = pb.LoopReport()
        assert operation.response.Unpack(report)
        return report

    def turned(self, collection: str, **settings: Any) -> pb.LoopReport:
        return self.made(self.start(collection, **settings))

    def failed(self, operation: operations_pb2.Operation) -> Failure:
        return failure_of(self.wait(operation))

    def metadata(self, operation: operations_pb2.Operation) -> pb.RunLoopMetadata:
        request = operations_pb2.GetOperationRequest(name=operation.name)
        found = pb.RunLoopMetadata()
        assert self.api.operations.GetOperation(request, timeout=CALL_S).metadata.Unpack(found)
        return found

    def reports(self, collection: str = "") -> list[pb.LoopReport]:
        request = pb.ListLoopReportsRequest(collection=collection)
        return list(self.stub.ListLoopReports(request, timeout=CALL_S).reports)

    def read_page(self, name: str) -> pb.GetLoopReportResponse:
        request = pb.GetLoopReportRequest(name=name, include_html=True)
        return self.stub.GetLoopReport(request, timeout=CALL_S)
