"""`quarry model` against a service that answers from memory."""

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from tests.unit.cli.conftest import abort
from typer.testing import CliRunner, Result

from quarry.v1 import model_service_pb2 as pb
from quarry.v1 import model_service_pb2_grpc
from quarry_cli.main import app

METRICS = [
    {"measure": "nDCG@10", "slice": "all", "subject": "candidate", "value": 0.712, "queries": 50},
    {"measure": "nDCG@10", "slice": "all", "subject": "serving", "value": 0.7, "queries": 50},
    {
        "measure": "nDCG@10", "slice": "all", "subject": "difference", "value": 0.012, "lower": 0.004,
        "upper": 0.021, "queries": 50,
    },
]  # fmt: skip


def model(number: int, **values: Any) -> pb.Model:
    return pb.Model(
        **{
            "name": f"faq@{number}",
            "collection": "faq",
            "kind": pb.MODEL_KIND_RERANKER,
            "state": pb.MODEL_STATE_CANDIDATE,
            "create_time": {"seconds": 1_700_000_000 + number},
            "lineage": {"quarry_version": "9.9"},
            **values,
        }
    )


class FakeModels(model_service_pb2_grpc.ModelServiceServicer):
    """
    Attributes:
        received: what imports have sent: options, and the bytes of an archive.
        breaks: an export ends with an error after its first piece.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.received: list[tuple[pb.ImportOptions, bytes]] = []
        self.breaks = False
        self.models = [
            model(
                2,
                verdict=pb.MODEL_VERDICT_IMPROVED,
                metrics=METRICS,
                advice=["serve \x1b[31mit"],
                cautions=[pb.MODEL_CAUTION_FEW_UNSEEN],
            ),
            model(1, state=pb.MODEL_STATE_RETIRED, description="first"),
        ]

        self.rankings = [
            pb.Ranking(
                name="faq/ranking@2", state=pb.MODEL_STATE_SERVING, verdict=pb.MODEL_VERDICT_IMPROVED,
                metrics=[pb.ModelMetric(**metric) for metric in METRICS],
            ),
            pb.Ranking(name="faq/ranking@1", state=pb.MODEL_STATE_CANDIDATE),
        ]  # fmt: skip

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        self.requests.append(request)
        at = int(request.page_token or 0)
        more = at + 1 < len(self.models)
        return pb.ListModelsResponse(
            models=self.models[at : at + 1], next_page_token=str(at + 1) if more else ""
        )

    def ListRankings(self, request: pb.ListRankingsRequest, context: Any) -> pb.ListRankingsResponse:
        self.requests.append(request)
        at = int(request.page_token or 0)
        more = at + 1 < len(self.rankings)
        return pb.ListRankingsResponse(
            rankings=self.rankings[at : at + 1], next_page_token=str(at + 1) if more else ""
        )

    def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        for one in self.models:
            if one.name == request.name:
                return pb.GetModelResponse(model=one)
        abort(context, code_pb2.NOT_FOUND, f"no model is called {request.name!r}", "MODEL_NOT_FOUND")
        raise AssertionError

    def PromoteModel(self, request: pb.PromoteModelRequest, context: Any) -> pb.PromoteModelResponse:
        self.requests.append(request)
        return pb.PromoteModelResponse(model=self.models[0], previous="faq@1")

    def RollbackModel(self, request: pb.RollbackModelRequest, context: Any) -> pb.RollbackModelResponse:
        self.requests.append(request)
        return pb.RollbackModelResponse(serving="", previous="faq@2")

    def RetireModel(self, request: pb.RetireModelRequest, context: Any) -> pb.RetireModelResponse:
        self.requests.append(request)
        return pb.RetireModelResponse(model=self.models[1])

    def ImportModel(self, stream: Iterator[pb.ImportModelRequest], context: Any) -> pb.ImportModelResponse:
        options = next(stream).options
        self.received.append((options, b"".join(request.archive for request in stream)))
        return pb.ImportModelResponse(model=model(3, kind=options.kind or pb.MODEL_KIND_RERANKER))

    def ExportModel(self, request: pb.ExportModelRequest, context: Any) -> Iterator[pb.ExportModelResponse]:
        yield pb.ExportModelResponse(archive=b"T")
        if self.breaks:
            abort(context, code_pb2.DATA_LOSS, "faq@2 is damaged", "MODEL_DAMAGED")
        yield pb.ExportModelResponse(archive=b"AR")


@pytest.fixture
def service() -> FakeModels:
    return FakeModels()


@pytest.fixture
def address(service: FakeModels) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def call(address: str, *arguments: object) -> Result:
    words = ["model", *map(str, arguments), "--server", address]
    return CliRunner().invoke(app, words, env={"COLUMNS": "140", "USER": "someone"})


def test_versions_are_listed_with_what_their_evaluation_found(service: FakeModels, address: str) -> None:
    ended = call(address, "list", "faq")
    assert ended.exit_code == 0, ended.output
    lines = [line.split() for line in ended.stdout.splitlines() if "faq@" in line]
    assert lines[0][:6] == ["faq@2", "reranker", "candidate", "IMPROVED", "0.712", "0.700"]
    assert "+0.012 (+0.004 to +0.021)" in ended.stdout
    assert lines[1][:3] == ["faq@1", "reranker", "retired"]
    assert [request.collection for request in service.requests] == ["faq", "faq"]
    found = json.loads(call(address, "list", "--json").stdout)
    assert [one["name"] for one in found] == ["faq@2", "faq@1"]
    service.models = []
    assert "no models" in call(address, "list").stdout


def test_ranking_configurations_are_listed_with_what_was_measured(service: FakeModels, address: str) -> None:
    ended = call(address, "rankings", "faq")
    assert ended.exit_code == 0, ended.output
    lines = [line.split() for line in ended.stdout.splitlines() if "faq/ranking@" in line]
    assert lines[0][:5] == ["faq/ranking@2", "serving", "IMPROVED", "0.712", "0.700"]
    assert lines[1][:2] == ["faq/ranking@1", "candidate"]
    assert [request.collection for request in service.requests] == ["faq", "faq"]
    found = json.loads(call(address, "rankings", "--json").stdout)
    assert [one["name"] for one in found] == ["faq/ranking@2", "faq/ranking@1"]
    service.rankings = []
    assert "no ranking configurations" in call(address, "rankings").stdout


def test_a_version_is_shown_with_its_advice_and_figures(address: str) -> None:
    ended = call(address, "show", "faq@2")
    assert ended.exit_code == 0, ended.output
    for told in ("faq@2", "IMPROVED", "FEW_UNSEEN", "quarry 9.9", "+0.012", "serve"):
        assert told in ended.stdout
    assert "\x1b[31m" not in ended.output
    assert json.loads(call(address, "show", "faq@2", "--json").stdout)["verdict"] == "MODEL_VERDICT_IMPROVED"


def test_a_name_that_is_no_version_ends_with_a_hint(address: str) -> None:
    ended = call(address, "show", "faq@9")
    assert ended.exit_code == 1
    assert "quarry model list" in ended.stderr


def test_promoting_says_what_was_replaced(service: FakeModels, address: str) -> None:
    ended = call(address, "promote", "faq@2", "--reason", "better")
    assert ended.stdout.strip() == "faq@2 serves faq, in place of faq@1"
    (request,) = service.requests
    assert (request.name, request.reason, request.promoted_by) == ("faq@2", "better", "someone")
    assert request.request_id
    assert json.loads(call(address, "promote", "faq@2", "--json").stdout)["previous"] == "faq@1"


def test_rolling_back_to_no_reranker_says_so(service: FakeModels, address: str) -> None:
    ended = call(address, "rollback", "faq", "--by", "me")
    assert ended.stdout.strip() == "the fused order serves faq again, in place of faq@2"
    assert service.requests[0].promoted_by == "me"
    assert json.loads(call(address, "rollback", "faq", "--json").stdout) == {
        "serving": "", "previous": "faq@2",
    }  # fmt: skip


def test_retiring(service: FakeModels, address: str) -> None:
    assert "faq@1 is retired" in call(address, "retire", "faq@1").stdout
    assert json.loads(call(address, "retire", "faq@1", "--json").stdout)["state"] == "MODEL_STATE_RETIRED"


def test_a_file_here_is_sent_and_a_name_is_not(service: FakeModels, address: str, tmp_path: Path) -> None:
    archive = tmp_path / "m.tar"
    archive.write_bytes(b"x" * 3_000_000)
    ended = call(address, "import", "faq", archive, "--description", "mine")
    assert ended.exit_code == 0, ended.output
    assert "quarry model promote faq@3" in ended.stderr
    options, data = service.received[0]
    assert (options.collection, options.source, options.description) == ("faq", "", "mine")
    assert (options.kind, data) == (pb.MODEL_KIND_UNSPECIFIED, archive.read_bytes())
    ended = call(address, "import", "faq", "some/model", "--kind", "encoder", "--json")
    assert json.loads(ended.stdout)["name"] == "faq@3"
    assert "--encoder faq@3" in ended.stderr
    options, data = service.received[1]
    assert (options.source, options.kind, data) == ("some/model", pb.MODEL_KIND_ENCODER, b"")


def test_a_folder_here_is_sent_as_an_archive(service: FakeModels, address: str, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert call(address, "import", "faq", folder).exit_code == 0
    with tarfile.open(fileobj=io.BytesIO(service.received[0][1])) as archive:
        weights = archive.extractfile("model/model.safetensors")
        assert weights is not None
        assert weights.read() == b"weights"


def test_an_export_is_written_whole_or_not_at_all(service: FakeModels, address: str, tmp_path: Path) -> None:
    file = tmp_path / "out.tar"
    ended = call(address, "export", "faq@2", file, "--json")
    assert file.read_bytes() == b"TAR"
    assert json.loads(ended.stdout) == {"version": "faq@2", "file": str(file), "bytes": 3}
    service.breaks = True
    ended = call(address, "export", "faq@2", file)
    assert ended.exit_code == 1
    assert "damaged" in ended.stderr
    assert file.read_bytes() == b"TAR"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tar"]
    assert "there is no folder" in call(address, "export", "faq@2", tmp_path / "no" / "x").stderr
