"""Relevance and hard negatives from clicks, over the API."""

from pathlib import Path

import grpc
import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS
from tests.integration.api.helpers.mining import DOCUMENTS, QUERIES, Mining, judged
from tests.integration.api.helpers.served import CALL_S, refused, served, tiny_settings

from quarry.v1 import feedback_service_pb2
from quarry.v1 import mining_service_pb2 as pb
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub


@pytest.fixture(scope="module")
def clicked(mining: Mining) -> str:
    """A collection whose first hits were clicked, a few times each."""
    api = mining.api
    api.create("clicked", schema=SCHEMA_MESSAGE)
    api.upsert("clicked", DOCUMENTS)
    feedback = FeedbackServiceStub(api.channel)
    for visit in range(8):
        for n in range(6):
            context = {"user_id": f"u{visit}", "session_id": f"s{visit}-{n}", "simulated": True}
            found = api.search("clicked", WORDS[n], context=context)
            click = feedback_service_pb2.Event(
                event_id=f"e{visit}-{n}",
                type=feedback_service_pb2.EVENT_TYPE_CLICK,
                attribution_token=found.attribution_token,
                document_id=found.hits[1].document.id,
            )
            request = feedback_service_pb2.RecordEventsRequest(collection="clicked", events=[click])
            answer = feedback.RecordEvents(request, timeout=CALL_S)
            assert not answer.statuses[0].status.code, answer
    return "clicked"


def test_relevance_is_estimated_from_clicks_and_measured(mining: Mining, clicked: str) -> None:
    request = pb.EstimateRelevanceRequest(
        collection=clicked, model=pb.CLICK_MODEL_PBM, max_estimates=5, seed=1,
        judgments=judged({"a": (WORDS[0], {"d001": 1})}),
    )  # fmt: skip
    found = mining.stub.EstimateRelevance(request, timeout=CALL_S)
    assert (found.model, found.impressions, found.clicks) == (pb.CLICK_MODEL_PBM, 48, 48)
    assert found.simulated
    assert len(found.estimates) == 5
    assert found.HasField("log_likelihood")
    assert found.perplexity[0].rank == 1
    assert not found.HasField("agreement")


def test_without_clicks_there_is_nothing_to_estimate(mining: Mining) -> None:
    failure = refused(mining.stub.EstimateRelevance, pb.EstimateRelevanceRequest(collection="full"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_FEEDBACK")
    wrong = pb.EstimateRelevanceRequest(collection="full", held_out=0.6)
    assert refused(mining.stub.EstimateRelevance, wrong).field == "held_out"


def test_clicked_queries_are_mined_and_their_sets_go_with_the_feedback(mining: Mining, clicked: str) -> None:
    made = mining.mined(clicked, feedback=pb.FeedbackPositives(floor=0.05), preset="topk", negatives=3)
    assert made.simulated
    assert made.pairs
    table = mining.examples(made.name)
    metadata, rows = table.schema.metadata, table.to_pylist()
    first_us, last_us = (int(metadata[b"quarry.feedback_%b_us" % end]) for end in (b"start", b"end"))
    assert 0 < first_us <= last_us <= made.create_time.ToMicroseconds()
    assert {row["query_id"] for row in rows} <= {f"click:{word}" for word in WORDS[:6]}
    assert any(dict(row["evidence"]).get("shown") for row in rows)
    judged_only = mining.mined(clicked, queries=QUERIES[:2], preset="random")
    purge = feedback_service_pb2.PurgeFeedbackRequest(collection=clicked, end_time=Timestamp(seconds=2**32))
    operation = FeedbackServiceStub(mining.api.channel).PurgeFeedback(purge, timeout=CALL_S)
    purged = feedback_service_pb2.PurgeFeedbackResponse()
    assert mining.wait(operation).response.Unpack(purged)
    assert made.name in purged.mining_sets
    assert mining.names(clicked) == [judged_only.name]


def test_jobs_read_feedback_by_the_guards_of_the_server_up_to_the_last_answer(
    tmp_path: Path, encoder_folder: Path
) -> None:
    """Two clicks of u within a minute are a burst by these settings: both pages are left out."""
    settings = tiny_settings(tmp_path, encoder_folder, feedback={"guards": {"choices_per_minute": 1}})
    with served(settings) as api:
        api.create("guarded", schema=SCHEMA_MESSAGE)
        api.upsert("guarded", DOCUMENTS)
        mining, feedback = Mining(api), FeedbackServiceStub(api.channel)
        for visit, user in enumerate("uuv"):
            found = api.search("guarded", WORDS[visit], context={"user_id": user})
            click = feedback_service_pb2.Event(
                event_id=f"e{visit}",
                type=feedback_service_pb2.EVENT_TYPE_CLICK,
                attribution_token=found.attribution_token,
                document_id=found.hits[0].document.id,
            )
            request = feedback_service_pb2.RecordEventsRequest(collection="guarded", events=[click])
            feedback.RecordEvents(request, timeout=CALL_S)
        estimate = pb.EstimateRelevanceRequest(collection="guarded")
        assert mining.stub.EstimateRelevance(estimate, timeout=CALL_S).impressions == 1
        made = mining.mined("guarded", feedback=pb.FeedbackPositives(floor=0.0), preset="random")
        assert "1 clicked pairs are no positives: fewer than 2 users" in made.report_json
        spec = orjson.loads((tmp_path / "mining" / made.name / "spec.json").read_bytes())
        assert spec["guards"]["choices_per_minute"] == 1
