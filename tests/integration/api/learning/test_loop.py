"""The loop over the API: a real server, and turns in processes of their own; mining and training pretend."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import psutil
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.api.helpers.corpus import WORDS
from tests.integration.api.helpers.feedback import click, filled, record, stats, waited
from tests.integration.api.helpers.looped import Loop
from tests.integration.api.helpers.served import CALL_S, Api, Failure, failure, refused, served, tiny_settings
from tests.integration.api.helpers.training import Training, path_with_fakes, until

from quarry.config import Settings
from quarry.v1 import collection_service_pb2, feedback_service_pb2
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb

FAKE = "fake_loop_jobs"
WORD = "confidentialword"
QUERIES = [f"{WORDS[n]} {WORD}" for n in range(4)]


@pytest.fixture(autouse=True)
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", path_with_fakes())
    monkeypatch.setattr("quarry.training.jobs.MODULE", FAKE)
    monkeypatch.setattr("quarry.mining.jobs.MODULE", FAKE)


def settings(data: Path, encoder: Path, cross_encoder: Path, **changes: Any) -> Settings:
    models = {"encoder": str(encoder), "base_reranker": str(cross_encoder), "device": "cpu"}
    return tiny_settings(data, encoder, models=models, **changes)


@pytest.fixture(scope="module")
def loop(
    tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path, cross_encoder_folder: Path
) -> Iterator[Loop]:
    """A server that makes what is improved serve, with a collection ``own`` that was clicked in."""
    data = tmp_path_factory.mktemp("loop")
    policy = {"promotion": "when_improved"}
    with served(settings(data, encoder_folder, cross_encoder_folder, training=policy)) as api:
        clicked(api)
        yield Loop(api)


def clicked(api: Api, name: str = "own", users: int = 3) -> str:
    """A collection whose queries some users have asked, each clicking on the second hit."""
    filled(api, name)
    for user in range(users):
        for query in QUERIES:
            answer = api.search(name, query, context={"user_id": f"u{user}"})
            assert not record(api, name, click(answer, 1))[0].status.code
    stats(api, name)
    return name


def jobs(module: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if module in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def serving(api: Api, name: str) -> str:
    request = collection_service_pb2.GetCollectionRequest(name=name)
    return api.collections.GetCollection(request, timeout=CALL_S).collection.reranker


def not_found(loop: Loop, name: str) -> Failure:
    with pytest.raises(grpc.RpcError) as raised:
        loop.read_page(name)
    return failure(raised.value)


def test_a_turn_ends_with_a_model_that_serves_and_a_report(loop: Loop) -> None:
    few = loop.turned("own")
    assert few.outcome == pb.LOOP_OUTCOME_NOT_ENOUGH_FEEDBACK
    assert (few.name, few.new_choices, few.min_new_choices) == ("", 12, 200)
    assert not loop.reports("own")
    made = loop.turned("own", min_new_choices=12)
    assert made.outcome == pb.LOOP_OUTCOME_PROMOTED
    assert made.mining_verdict == mining_pb.MINING_VERDICT_GOOD
    assert made.model_verdict == models_pb.MODEL_VERDICT_IMPROVED
    assert serving(loop.api, "own") == made.model == "own@1"
    assert made.metrics[0].measure == "nDCG@10"
    assert made.queries_compared == len(QUERIES)
    assert {change.query for change in made.changes} <= set(QUERIES)
    moved = [one for change in made.changes for one in change.documents]
    assert moved, "a cross-encoder of random weights changes something"
    assert all(one.rank_before != one.rank_after for one in moved)
    assert orjson.loads(made.report_json)["versions"][0]["name"] == "own@1"
    found = loop.read_page(made.name)
    assert found.report == made
    assert "<svg" in found.html and "own@1 is better than" in found.html and WORD in found.html
    (listed,) = loop.reports("own")
    assert (listed.name, listed.report_json) == (made.name, "")
    after = loop.turned("own", min_new_choices=1)
    assert (after.outcome, after.new_choices) == (pb.LOOP_OUTCOME_NOT_ENOUGH_FEEDBACK, 0)


@pytest.mark.parametrize(
    ("wanted", "outcome"),
    [("REGRESSED", "NOT_BETTER"), ("INSUFFICIENT_DATA", "NOT_BETTER"), ("TOO_EASY", "BAD_EXAMPLES")],
)
def test_what_is_not_better_leaves_what_serves(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, wanted: str, outcome: str
) -> None:
    monkeypatch.setenv("QUARRY_TEST_LOOP", wanted)
    before = serving(loop.api, "own")
    made = loop.turned("own", force=True)
    assert pb.LoopOutcome.Name(made.outcome) == f"LOOP_OUTCOME_{outcome}"
    assert made.advice
    assert bool(made.model) is (outcome == "NOT_BETTER")
    assert serving(loop.api, "own") == before
    assert "<html" in loop.read_page(made.name).html


def test_a_policy_by_hand_promotes_nothing(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path
) -> None:
    with served(settings(tmp_path, encoder_folder, cross_encoder_folder)) as api:
        made = Loop(api).turned(clicked(api), force=True)
        assert made.outcome == pb.LOOP_OUTCOME_IMPROVED_NOT_PROMOTED
        assert made.advice[-1] == "`quarry model promote own@1` makes it serve"
        assert serving(api, "own") == ""


@pytest.mark.parametrize("whom", ["quarry_trainer.job", FAKE])
def test_a_killed_turn_has_failed_and_the_next_goes_on(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, whom: str
) -> None:
    monkeypatch.setenv("QUARRY_TEST_LOOP", "stop")
    name = clicked(loop.api, "killed" if whom == FAKE else "killed-turn")
    operation = loop.start(name, force=True)
    until(lambda: loop.metadata(operation).stage == "training: training", "training")
    (job,) = jobs(whom)
    job.send_signal(signal.SIGKILL)
    ended = loop.failed(operation)
    assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "JOB_KILLED")
    until(lambda: not jobs(FAKE), "end of the training that the turn waited for")
    (report,) = loop.reports(name)
    assert report.outcome == pb.LOOP_OUTCOME_FAILED and report.advice
    assert loop.read_page(report.name).html == ""
    made = loop.turned(name)  # whatever is new: what was begun is finished
    assert made.outcome == pb.LOOP_OUTCOME_NOT_BETTER
    request = models_pb.GetModelRequest(name=made.model)
    model = Training(loop.api).models.GetModel(request, timeout=CALL_S).model
    assert model.lineage.data_hash == "begun 2"


def test_a_cancelled_turn_ends_all_that_it_started(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARRY_TEST_LOOP", "stop")
    name = clicked(loop.api, "cancelled")
    operation = loop.start(name, force=True)
    until(lambda: loop.metadata(operation).stage == "training: training", "training")
    Training(loop.api).cancel(operation)
    assert loop.failed(operation).code is grpc.StatusCode.CANCELLED
    until(lambda: not jobs(FAKE) and not jobs("quarry_trainer.job"), "end of the jobs")


def test_a_server_that_stops_leaves_a_failed_turn_and_the_next_goes_on(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARRY_TEST_LOOP", "stop")
    own = settings(tmp_path, encoder_folder, cross_encoder_folder)
    with served(own) as api:
        loop = Loop(api)
        operation = loop.start(clicked(api), force=True)
        until(lambda: loop.metadata(operation).stage == "training: training", "training")
    assert not jobs(FAKE) and not jobs("quarry_trainer.job")
    with served(own) as api:
        loop = Loop(api)
        assert loop.failed(operation).code is grpc.StatusCode.UNAVAILABLE
        (report,) = loop.reports("own")
        assert report.outcome == pb.LOOP_OUTCOME_FAILED
        assert loop.turned("own").outcome == pb.LOOP_OUTCOME_NOT_BETTER


def test_a_repeated_request_id_returns_the_first_operation(loop: Loop) -> None:
    first = loop.start("own", request_id="same")
    assert loop.start("own", request_id="same").name == first.name
    other = pb.RunLoopRequest(collection="own", force=True, request_id="same")
    assert refused(loop.stub.RunLoop, other).field == "request_id"
    loop.made(first)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"min_new_choices": 0}, "min_new_choices"),
        ({"min_new_choices": -3}, "min_new_choices"),
        ({"steps": -1}, "steps"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"judgments": [mining_pb.JudgedQuery(query_id="q", text="x")]}, "judgments[0].judgments"),
        ({"request_id": "x" * 500}, "request_id"),
    ],
)
def test_a_wrong_field_is_named(loop: Loop, fields: dict[str, Any], path: str) -> None:
    request = pb.RunLoopRequest(collection="own", **fields)
    assert refused(loop.stub.RunLoop, request).field == path


def test_what_is_not_there_is_not_found(loop: Loop) -> None:
    for name in ("nothing", "../own", ""):
        assert not_found(loop, name).code is grpc.StatusCode.NOT_FOUND
    gone = pb.RunLoopRequest(collection="gone")
    assert refused(loop.stub.RunLoop, gone).reason == "COLLECTION_NOT_FOUND"


def test_reports_are_listed_newest_first_a_page_at_a_time(loop: Loop) -> None:
    loop.turned("own", force=True)
    loop.turned("own", force=True)
    names = [one.name for one in loop.reports()]
    paged: list[str] = []
    token = ""
    while True:
        request = pb.ListLoopReportsRequest(page_size=1, page_token=token)
        page = loop.stub.ListLoopReports(request, timeout=CALL_S)
        paged += [one.name for one in page.reports]
        if not (token := page.next_page_token):
            break
    assert paged == names and len(names) > 1
    times = [one.start_time.ToMicroseconds() for one in loop.reports()]
    assert times == sorted(times, reverse=True)


def test_reports_go_with_the_feedback_whose_queries_they_quote(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path
) -> None:
    with served(settings(tmp_path, encoder_folder, cross_encoder_folder)) as api:
        loop = Loop(api)
        made = loop.turned(clicked(api), force=True)
        assert made.changes
        assert files_with(tmp_path, WORD)
        assert purge(api, user_id="u1") == [made.model]
        assert not_found(loop, made.name).code is grpc.StatusCode.NOT_FOUND
        now = Timestamp()
        now.GetCurrentTime()
        purge(api, end_time=now)
        assert not files_with(tmp_path, WORD)
        again = loop.turned("own", force=True)
        assert again.queries_compared == 0
        api.collections.DeleteCollection(
            collection_service_pb2.DeleteCollectionRequest(name="own"), timeout=CALL_S
        )
        assert not loop.reports()
        assert not list((tmp_path / "loops").glob("own-*"))
        assert not list((tmp_path / "loops" / ".places").glob("*"))


def purge(api: Api, **what: Any) -> list[str]:
    """Names of the versions that may have learned from what is deleted."""
    request = feedback_service_pb2.PurgeFeedbackRequest(collection="own", **what)
    operation = api.feedback.PurgeFeedback(request, timeout=CALL_S)
    return list(waited(api, operation, feedback_service_pb2.PurgeFeedbackResponse()).models)


def files_with(folder: Path, words: str) -> list[str]:
    """Files that hold ``words``."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in files if words.encode() in path.read_bytes()]


def test_the_server_turns_by_itself_when_a_collection_is_due(
    tmp_path: Path,
    encoder_folder: Path,
    cross_encoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quarry_server.training.loop.LOOK_S", 0.05)
    policy = {"every_hours": 100, "min_new_choices": 12}
    with served(settings(tmp_path, encoder_folder, cross_encoder_folder)) as api:
        clicked(api)
    with served(settings(tmp_path, encoder_folder, cross_encoder_folder, loop=policy)) as api:
        loop = Loop(api)
        (report,) = until(loop.reports, "turn")
        assert report.outcome == pb.LOOP_OUTCOME_IMPROVED_NOT_PROMOTED
