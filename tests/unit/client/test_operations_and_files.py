"""Long-running operations that are followed, and files that are sent and fetched."""

import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from quarry.client import Client, ProtocolError, QuarryCallError
from quarry.client.transfers import replace_file
from quarry.v1 import feedback_service_pb2, mining_service_pb2, model_service_pb2

RUNNING = operations_pb2.Operation(name="operations/1")


@pytest.fixture
def quarry(server):
    with Client(server.address) as client:
        yield client


def test_an_operation_is_followed_to_its_result(quarry, server):
    server.pending, server.outcome = 3, mining_service_pb2.MiningSet(name="m1")
    seen = []
    made = quarry.wait(RUNNING, mining_service_pb2.MiningSet, lambda operation: seen.append(operation.done))
    assert made.name == "m1"
    assert seen == [False, False, False, True]


def test_an_operation_that_has_ended_is_not_asked_for(quarry, server):
    done = operations_pb2.Operation(name="operations/1", done=True)
    done.response.Pack(mining_service_pb2.MiningSet(name="m1"))
    assert quarry.wait(done, mining_service_pb2.MiningSet).name == "m1"
    assert not server.calls


def test_an_operation_goes_on_over_a_short_absence_of_the_server(quarry, server):
    server.pending, server.outcome, server.unavailable = 1, mining_service_pb2.MiningSet(name="m1"), 2
    assert quarry.wait(RUNNING, mining_service_pb2.MiningSet).name == "m1"


def test_an_operation_that_failed_raises_its_error(quarry, server):
    server.pending = 1
    server.outcome = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="no click")
    server.outcome.details.add().Pack(error_details_pb2.ErrorInfo(reason="NO_FEEDBACK"))
    with pytest.raises(QuarryCallError, match=r"FAILED_PRECONDITION \(NO_FEEDBACK\): no click") as caught:
        quarry.wait(RUNNING, mining_service_pb2.MiningSet)
    assert caught.value.reason == "NO_FEEDBACK"


def test_an_operation_with_another_result_breaks_the_protocol(quarry, server):
    server.pending, server.outcome = 1, model_service_pb2.Model()
    with pytest.raises(ProtocolError, match=r"quarry\.v1\.Model"):
        quarry.wait(RUNNING, mining_service_pb2.MiningSet)


def test_an_operation_is_cancelled(quarry, server):
    quarry.cancel(RUNNING)
    assert server.calls["CancelOperation"] == 1


def test_a_file_is_sent_in_pieces(quarry, server, tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "e.parquet").write_bytes(content)
    assert quarry.upload_examples(tmp_path / "e.parquet") == "upload-1"
    assert server.received == content
    options = model_service_pb2.ImportOptions(collection="faq")
    assert quarry.import_model(options, tmp_path / "e.parquet").name == "faq@1"
    assert server.received == content
    assert quarry.import_model(options).name == "faq@1"
    assert server.received == b""


def test_a_file_that_is_not_there_is_an_os_error(quarry, tmp_path):
    with pytest.raises(FileNotFoundError):
        quarry.upload_examples(tmp_path / "nothing.parquet")


def test_a_source_that_fails_halfway_is_the_error(quarry):
    def pieces():
        yield b"{}"
        raise EOFError("the file was cut short")

    with pytest.raises(EOFError, match="cut short"):
        quarry.import_events(feedback_service_pb2.ImportEventsConfig(collection="faq"), pieces())


def test_two_that_fetch_to_one_path_do_not_mix(tmp_path):
    path = tmp_path / "set.parquet"
    with replace_file(path) as first, replace_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fetched_file_replaces_the_old_one_only_when_it_is_whole(quarry, tmp_path):
    path = tmp_path / "set.parquet"
    assert quarry.read_examples("m1", path) == 7
    with pytest.raises(QuarryCallError, match="cut short"):
        quarry.read_examples("broken", path)
    assert path.read_bytes() == b"one two"
    assert list(tmp_path.iterdir()) == [path]
