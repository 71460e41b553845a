"""A turn of the loop, outcome by outcome: a server that answers from memory, and a real feedback log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tests.unit.trainer.loop.fake_server import FakeServer, serve_fake
from tests.unit.training.loops import loop_spec
from tests.unit.training.samples import report as evaluation

from quarry.errors import FailedPreconditionError, NotFoundError, UnavailableError
from quarry.feedback.log import insert_events, insert_impressions
from quarry.feedback.rows import make_impression_row
from quarry.feedback.tables import FILE_NAME, open_feedback
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.jobs.child import ProgressReporter
from quarry.jobs.waited_for import read_operation
from quarry.search.logged_request import SearchContext
from quarry.training.loop_reports import PAGE, LoopPlace, LoopReports, Unfinished
from quarry.training.loop_spec import LoopReport
from quarry.training.spec import OffPolicyEstimate
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry_trainer.loop.loop_run import run_once

DAY_US = 24 * 3_600 * 10**6
QUERIES = ("Lost password", "no invoice", "lost password ")


@pytest.fixture
def server() -> Iterator[tuple[FakeServer, str]]:
    with serve_fake() as served:
        yield served


def write_log(data: Path, start: int = 0, received_us: int = 10) -> None:
    """A search for each query, each by a user of its own, who clicks on its first hit and reads it."""
    engine = open_feedback(data / FILE_NAME)
    rows, events = [], []
    for n, query in enumerate(QUERIES, start):
        name = f"s{n}"
        hits = tuple(LoggedHit(f"d{place}", 1, place, 1.0) for place in (1, 2, 3))
        context = SearchContext(user_id=f"u{n}")
        rows.append(
            make_impression_row(1, Impression(name, 0, n * DAY_US, query, context, hits), received_us)
        )
        events += [
            Event(f"{name}-{kind}", kind, name, 0, n * DAY_US + 5, received_us, "d1")
            for kind in (EventType.CLICK, EventType.VIEW)
        ]
    with engine.begin() as connection:
        insert_impressions(connection, rows, {})
        insert_events(connection, [(1, events)])
    engine.dispose()


def turn(data: Path, address: str, **settings: Any) -> tuple[LoopReport, list[bytes]]:
    """A turn in a data folder, and what it said of its progress."""
    spec = loop_spec(server=address, **settings)
    lines: list[bytes] = []
    folder = LoopReports(data).create(spec)
    return run_once(spec, folder, ProgressReporter(lines.append)), lines


def failing(code: int, reason: str, message: str = "no") -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="quarry"))
    return status


def test_a_better_model_is_promoted_and_what_changes_is_told(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    service.models = [service.model, models_pb.Model(name="faq@1", kind=models_pb.MODEL_KIND_RERANKER)]
    write_log(tmp_path)
    judgments = ({"id": "q", "text": "x", "judgments": {"d1": 2}},)
    made, lines = turn(tmp_path, address, steps=5, max_tokens=32, seed=7, judgments=judgments)
    assert (made.outcome, made.model, made.model_verdict) == ("PROMOTED", "faq@2", "IMPROVED")
    assert (made.new_choices, made.compared_with) == (3, "faq@1")
    assert made.advice == ("better", "faq@2 serves; `quarry model rollback faq` takes it back")
    assert made.metrics[0].value == pytest.approx(0.1)
    assert [(one.name, one.verdict) for one in made.versions] == [("faq@1", ""), ("faq@2", "IMPROVED")]
    assert (made.feedback_start_us, made.feedback_end_us) == (-26 * DAY_US, 2 * DAY_US)
    assert LoopReports(tmp_path).get("faq-1") == made
    assert "faq@2 is better than faq@1" in LoopReports(tmp_path).read_page("faq-1")
    (mined,), (trained,) = service.mined, service.trained
    assert mined.HasField("feedback") and not mined.preset
    assert mined.request_id != trained.request_id and len(trained.request_id) <= 36
    assert (trained.mining_set, trained.steps, trained.max_tokens, trained.seed) == ("faq-set", 5, 32, 7)
    assert [(j.document_id, j.grade) for j in trained.judgments[0].judgments] == [("d1", 2)]
    assert any(b"training" in line for line in lines)


def test_the_queries_asked_most_are_searched_with_both_and_leave_no_trace(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert [(one.query, one.times_asked) for one in made.changes] == [("Lost password", 2), ("no invoice", 1)]
    assert made.queries_compared == 2
    moved = [(one.document_id, one.rank_before, one.rank_after) for one in made.changes[0].documents]
    assert moved == [("d0", 3, 1), ("d2", 1, 3)]
    first, last = made.changes[0].documents
    assert first.title == "text 0"
    assert last.title.startswith("title 2 xxx") and len(last.title) == 120 and last.title.endswith("…")
    assert [request.rerank.model for request in service.searched] == ["", "", "faq@2", "faq@2"]
    assert all(r.unlogged and r.require_complete and r.page_size == 10 for r in service.searched)


def test_too_little_that_is_new_does_nothing_and_keeps_nothing(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    write_log(tmp_path)
    made, _ = turn(tmp_path, address, min_new_choices=4)
    assert (made.outcome, made.name, made.new_choices) == ("NOT_ENOUGH_FEEDBACK", "", 3)
    assert "3 choices are new, under 4" in made.advice[0]
    assert not service.mined
    forced, _ = turn(tmp_path, address, name="faq-2", min_new_choices=4, force=True)
    assert forced.outcome == "PROMOTED"


def test_choices_count_once_for_the_turns_that_follow(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    _, address = server
    write_log(tmp_path)
    assert turn(tmp_path, address)[0].outcome == "PROMOTED"
    assert turn(tmp_path, address, name="faq-2")[0].new_choices == 0
    until_us = LoopReports(tmp_path).read_place(1).until_us
    write_log(tmp_path, start=len(QUERIES), received_us=until_us + 1)
    assert turn(tmp_path, address, name="faq-3")[0].new_choices == 3


@pytest.mark.parametrize("verdict", [mining_pb.MINING_VERDICT_NO_DATA, mining_pb.MINING_VERDICT_TOO_EASY])
def test_examples_that_are_not_good_end_the_turn(
    server: tuple[FakeServer, str], tmp_path: Path, verdict: mining_pb.MiningVerdict.ValueType
) -> None:
    service, address = server
    service.set.verdict = verdict
    service.set.advice.append("get more")
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert (made.outcome, made.advice[:-1], made.model) == ("BAD_EXAMPLES", ("get more",), "")
    assert made.advice[-1].startswith("`quarry mine faq --from-feedback --out examples.parquet --report ")
    assert made.mining is not None and made.mining.name == "faq-set"
    assert not service.trained and not service.searched
    assert LoopReports(tmp_path).read_place(1).unfinished is None


def test_examples_that_training_refuses_are_bad_too(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    service, address = server
    service.model = models_pb.Model(
        collection="faq", verdict=models_pb.MODEL_VERDICT_BAD_DATA, advice=["one user made it all"],
        report_json=evaluation("BAD_DATA").model_dump_json(),
    )  # fmt: skip
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert (made.outcome, made.model, made.model_verdict) == ("BAD_EXAMPLES", "", "BAD_DATA")
    assert made.advice[:-1] == ("one user made it all",)


@pytest.mark.parametrize("verdict", ["NO_IMPROVEMENT", "REGRESSED", "INSUFFICIENT_DATA"])
def test_what_is_not_proven_better_changes_nothing(
    server: tuple[FakeServer, str], tmp_path: Path, verdict: str
) -> None:
    service, address = server
    service.model.verdict = models_pb.ModelVerdict.Value(f"MODEL_VERDICT_{verdict}")
    service.model.state = models_pb.MODEL_STATE_CANDIDATE
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert (made.outcome, made.model_verdict) == ("NOT_BETTER", verdict)
    assert made.changes


def test_a_policy_by_hand_leaves_the_command_to_type(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    service, address = server
    service.model.state = models_pb.MODEL_STATE_CANDIDATE
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert made.outcome == "IMPROVED_NOT_PROMOTED"
    assert made.advice[-1] == "`quarry model promote faq@2` makes it serve"


def test_a_model_is_not_lost_because_the_top_tens_cannot_be_searched(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    service.search_code = grpc.StatusCode.FAILED_PRECONDITION
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert (made.outcome, made.model, made.queries_compared) == ("PROMOTED", "faq@2", 0)
    assert any("could not be compared: not whole" in one for one in made.advice)


def test_an_interrupted_turn_is_gone_on_with_where_it_was(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    service.errors = {"train": failing(code_pb2.UNAVAILABLE, "JOB_KILLED")}
    write_log(tmp_path)
    with pytest.raises(UnavailableError) as raised:
        turn(tmp_path, address)
    assert raised.value.reason == "JOB_KILLED"
    place = LoopReports(tmp_path).read_place(1)
    assert place.unfinished == Unfinished(until_us=place.unfinished.until_us, mining_set="faq-set")  # type: ignore[union-attr]
    assert read_operation(tmp_path / "loops" / "faq-1") == "train-reranker-1"
    service.errors = {}
    made, _ = turn(tmp_path, address, name="faq-2", min_new_choices=1_000)
    assert made.outcome == "PROMOTED"
    assert len(service.mined) == 1
    assert service.trained[0].mining_set == service.trained[1].mining_set
    assert LoopReports(tmp_path).read_place(1) == LoopPlace(until_us=place.unfinished.until_us)  # type: ignore[union-attr]


def test_a_set_that_is_gone_meanwhile_is_mined_again_from_the_same_feedback(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    LoopReports(tmp_path).set_place(
        1, LoopPlace(unfinished=Unfinished(until_us=77_000_001, mining_set="gone"))
    )
    write_log(tmp_path)
    assert turn(tmp_path, address)[0].outcome == "PROMOTED"
    end = service.mined[0].feedback.end_time
    assert (end.seconds, end.nanos) == (77, 1_000)


def test_an_error_that_would_come_again_is_not_gone_on_with(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    service.errors = {"train": failing(code_pb2.FAILED_PRECONDITION, "MODEL_UNUSABLE", "no base")}
    write_log(tmp_path)
    with pytest.raises(FailedPreconditionError, match="no base"):
        turn(tmp_path, address)
    assert LoopReports(tmp_path).read_place(1) == LoopPlace()
    assert not (tmp_path / "loops" / "faq-1" / PAGE).exists()


def test_feedback_that_says_nothing_is_not_enough(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    service, address = server
    service.errors = {"mine": failing(code_pb2.FAILED_PRECONDITION, "NO_FEEDBACK")}
    made, _ = turn(tmp_path, address, force=True)
    assert (made.outcome, made.name) == ("NOT_ENOUGH_FEEDBACK", "")
    assert "feedback stats" in made.advice[0]


def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    server: tuple[FakeServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, address = server
    monkeypatch.setattr("quarry.jobs.retrying.FIRST_PAUSE_S", 0.0)
    service.unavailable = 2
    write_log(tmp_path)
    assert turn(tmp_path, address)[0].outcome == "PROMOTED"
    service.unavailable = 100
    with pytest.raises(UnavailableError):
        turn(tmp_path, address, name="faq-2", force=True)


def test_what_is_gone_is_an_error_of_its_type(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    service, address = server
    service.errors = {"mine": failing(code_pb2.NOT_FOUND, "COLLECTION_NOT_FOUND")}
    with pytest.raises(NotFoundError) as raised:
        turn(tmp_path, address, force=True)
    assert raised.value.reason == "COLLECTION_NOT_FOUND"


def test_versions_that_clicks_judged_are_told_by_their_estimates(
    server: tuple[FakeServer, str], tmp_path: Path
) -> None:
    service, address = server
    estimate = {"subject": "difference", "value": 0.2, "lower": 0.1, "upper": 0.3}
    estimates = tuple(
        OffPolicyEstimate(estimator=one, effective_sample_size=80, support=0.9, **estimate)  # type: ignore[arg-type]
        for one in ("snips", "doubly_robust")
    )
    details = {
        "explored_clicks": 44,
        "owner_share": 0.1,
        "decides": {"level": 0.9875, "earlier_decisions": 1},
    }
    found = evaluation(source="clicks", metrics=(), off_policy=estimates, queries=33, details=details)
    service.model.ClearField("metrics")
    service.model.report_json = found.model_dump_json()
    service.models = [service.model]
    write_log(tmp_path)
    made, _ = turn(tmp_path, address)
    assert made.evidence is not None
    assert (made.evidence.source, made.evidence.queries, made.evidence.level) == ("clicks", 33, 0.9875)
    assert (made.evidence.explored_clicks, made.evidence.earlier_decisions) == (44, 1)
    assert [one.estimator for one in made.versions[0].off_policy] == ["doubly_robust"]
    page = LoopReports(tmp_path).read_page("faq-1")
    for told in ("doubly robust", "clicks a search, less what served", "90.0 %", "Busiest user"):
        assert told in page
