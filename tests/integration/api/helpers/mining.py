"""Calls of MiningService, for tests of it."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from tests.integration.api.helpers.corpus import seeded_documents
from tests.integration.api.helpers.served import CALL_S, Api, Failure, checked_status

from quarry.v1 import mining_service_pb2 as pb
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub

JOB_S = 240.0
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Mining:
    """One server's MiningService."""

    def __init__(self, api: Api) -> None:
        self.api, self.stub = api, MiningServiceStub(api.channel)

    def start(self, collection: str, **settings: Any) -> operations_pb2.Operation:
        request = pb.MineHardNegativesRequest(collection=collection, **settings)
        return self.stub.MineHardNegatives(request, timeout=CALL_S)

    def wait(self, operation: operations_pb2.Operation, seconds: float = JOB_S) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(
            name=operation.name, timeout=duration_pb2.Duration(seconds=int(seconds))
        )
        return self.api.operations.WaitOperation(request, timeout=JOB_S)

    def mined(self, collection: str, **settings: Any) -> pb.MiningSet:
        operation = self.wait(self.start(collection, **settings))
        assert operation.done
        assert not operation.HasField("error"), operation.error
        made = pb.MiningSet()
        assert operation.response.Unpack(made)
        return made

    def failed(self, collection: str, **settings: Any) -> Failure:
        return failure_of(self.wait(self.start(collection, **settings)))

    def examples(self, name: str) -> pa.Table:
        pieces = self.stub.ReadExamples(pb.ReadExamplesRequest(name=name), timeout=CALL_S)
        return pq.read_table(io.BytesIO(b"".join(piece.parquet for piece in pieces)))

    def names(self, collection: str = "") -> list[str]:
        request = pb.ListMiningSetsRequest(collection=collection)
        return [one.name for one in self.stub.ListMiningSets(request, timeout=CALL_S).mining_sets]


def failure_of(operation: operations_pb2.Operation) -> Failure:
    assert operation.done
    assert operation.HasField("error"), "it ended well"
    return checked_status(operation.error, _CODES[operation.error.code])


def judged(queries: Mapping[str, tuple[str, Mapping[str, int]]]) -> Sequence[pb.JudgedQuery]:
    return [
        pb.JudgedQuery(
            query_id=id,
            text=text,
            judgments=[pb.Judgment(document_id=d, grade=grade) for d, grade in grades.items()],
        )
        for id, (text, grades) in queries.items()
    ]


DOCUMENTS = seeded_documents()
QUERIES = judged(
    {
        f"q{n}": (str(DOCUMENTS[f"d{n:03}"]["text"]), {f"d{n:03}": 1, f"d{n + 40:03}": 2, "d119": 0})
        for n in range(20)
    }
)
"""Judged queries over the seeded documents."""
LOOSE = {"share": 1.0}  # the tiny encoder finds all documents alike
