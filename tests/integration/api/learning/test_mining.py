"""Hard negatives over the API: a real server, jobs in processes of their own, models of a few weights."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import orjson
import psutil
import pytest
from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS
from tests.integration.api.helpers.hostile import TEXTS
from tests.integration.api.helpers.mining import DOCUMENTS, LOOSE, QUERIES, Mining, failure_of, judged
from tests.integration.api.helpers.served import CALL_S, refused

from quarry.questions import has_words
from quarry.v1 import collection_service_pb2
from quarry.v1 import mining_service_pb2 as pb


@pytest.fixture(scope="module")
def made(mining: Mining) -> pb.MiningSet:
    return mining.mined("full", queries=QUERIES, preset="perc-pos", parameters=LOOSE, negatives=4, seed=1)


def test_a_set_has_the_rows_that_its_summary_names(mining: Mining, made: pb.MiningSet) -> None:
    table = mining.examples(made.name)
    assert made.pairs == 40
    assert made.rows == len(table) > 0
    assert made.coverage == len({(r["query_id"], r["positive_id"]) for r in table.to_pylist()}) / 40
    assert made.preset == "perc-pos"
    assert list(made.members) == ["dense"]
    assert sum(made.rungs.values()) == made.rows
    metadata = table.schema.metadata
    assert metadata[b"quarry.data_hash"] == made.data_hash.encode()
    assert metadata[b"quarry.simulated"] == b"false"
    assert b"quarry.feedback_start_us" not in metadata
    assert orjson.loads(metadata[b"quarry.spec"])["preset"] == "perc-pos"


def test_no_relevant_document_is_a_negative_of_its_query(mining: Mining, made: pb.MiningSet) -> None:
    relevant = {q.query_id: {j.document_id for j in q.judgments if j.grade > 0} for q in QUERIES}
    for row in mining.examples(made.name).to_pylist():
        assert row["positive_id"] in relevant[row["query_id"]]
        assert row["negative_id"] not in relevant[row["query_id"]]
        assert row["s_qd"] <= row["s_qp"]
        assert row["members"][0]["name"] == "dense"


def test_the_same_request_gives_the_same_rows_and_mines_nothing_again(
    mining: Mining, made: pb.MiningSet
) -> None:
    again = mining.mined("full", queries=QUERIES, preset="perc-pos", parameters=LOOSE, negatives=4, seed=1)
    assert again.name != made.name
    assert again.data_hash == made.data_hash
    assert mining.examples(again.name).equals(mining.examples(made.name))
    assert orjson.loads(again.report_json)["reuse"]["reused"] == 20


def test_the_report_is_kept_as_json_and_as_a_page(mining: Mining, made: pb.MiningSet) -> None:
    found = mining.stub.GetMiningSet(
        pb.GetMiningSetRequest(name=made.name, include_html=True), timeout=CALL_S
    )
    report = orjson.loads(found.mining_set.report_json)
    assert report["verdict"] == pb.MiningVerdict.Name(found.mining_set.verdict).removeprefix(
        "MINING_VERDICT_"
    )
    assert report["positives"]["judged_pairs"] == 40
    assert "<svg" in found.html
    without = mining.stub.GetMiningSet(pb.GetMiningSetRequest(name=made.name), timeout=CALL_S)
    assert not without.html


def test_sets_are_listed_newest_first_a_page_at_a_time(mining: Mining, made: pb.MiningSet) -> None:
    newer = mining.mined("full", queries=QUERIES[:2], preset="random")
    names = mining.names("full")
    assert names.index(newer.name) < names.index(made.name)
    paged: list[str] = []
    token = ""
    while True:
        request = pb.ListMiningSetsRequest(collection="full", page_size=1, page_token=token)
        page = mining.stub.ListMiningSets(request, timeout=CALL_S)
        paged += [one.name for one in page.mining_sets]
        assert not any(one.report_json for one in page.mining_sets)
        token = page.next_page_token
        if not token:
            break
    assert paged == names


def test_every_preset_that_needs_no_more_gives_rows(mining: Mining) -> None:
    for preset in ("quarry", "ensemble-2024"):
        made = mining.mined("full", queries=QUERIES[:6], preset=preset, negatives=3)
        assert made.rows
        assert made.preset == ("enterprise-2025" if preset == "ensemble-2024" else preset)


def test_documents_that_are_not_there_are_counted_and_named(mining: Mining) -> None:
    queries = judged({"a": ("bara", {"d001": 1, "gone": 1}), "b": ("deneli", {"gone too": 1})})
    report = orjson.loads(mining.mined("full", queries=queries, preset="topk").report_json)
    assert report["positives"]["unknown_documents"] == 2
    assert report["positives"]["unknown_examples"] == ["gone", "gone too"]
    assert report["positives"]["queries_without_positive"] == 1
    assert report["pairs"] == 1


def test_an_empty_collection_and_one_without_positives_give_no_data(mining: Mining) -> None:
    mining.api.create("empty", schema=SCHEMA_MESSAGE)
    for collection, queries in (("empty", QUERIES), ("full", judged({"a": ("x", {"d001": 0})}))):
        made = mining.mined(collection, queries=queries)
        assert made.verdict == pb.MINING_VERDICT_NO_DATA
        assert made.advice
        assert len(mining.examples(made.name)) == 0


def test_hostile_texts_are_mined_like_others(mining: Mining) -> None:
    texts = [text for text in TEXTS if has_words(text) and len(text.encode()) <= 8_192]
    queries = judged({f"{n} <b>": (text, {"d001": 1}) for n, text in enumerate(texts)})
    made = mining.mined("full", queries=queries, preset="topk", negatives=2)
    found = mining.stub.GetMiningSet(
        pb.GetMiningSetRequest(name=made.name, include_html=True), timeout=CALL_S
    )
    assert "<script" not in found.html
    assert {row["query"] for row in mining.examples(made.name).to_pylist()} == set(texts)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"preset": "quary"}, "preset"),
    ({"parameters": {"shar": 1.0}}, "parameters[shar]"),
    ({"parameters": {"share": float("nan")}}, "parameters[share]"),
    ({"members": ["bm25", "dens"]}, "members[1]"),
    ({"members": ["dense", "dense"]}, "members[1]"),
    ({"negatives": 101}, "negatives"),
    ({"negatives": -1}, "negatives"),
    ({"depth": 9}, "depth"),
    ({"depth": 1_001}, "depth"),
    ({"queries": []}, "queries"),
    ({"queries": judged({"": ("x", {"a": 1})})}, "queries[0].query_id"),
    ({"queries": judged({"a": (" ", {"a": 1})})}, "queries[0].text"),
    ({"queries": judged({"a": ("x" * 8_193, {"a": 1})})}, "queries[0].text"),
    ({"queries": judged({"a": ("?! ...", {"a": 1})})}, "queries[0].text"),
    ({"queries": judged({"a": ("x", {})})}, "queries[0].judgments"),
    ({"queries": judged({"a": ("x", {"": 1})})}, "queries[0].judgments[0].document_id"),
    ({"queries": [*QUERIES[:1], *QUERIES[:1]]}, "queries[1].query_id"),
    ({"feedback": pb.FeedbackPositives(floor=1.5)}, "feedback.floor"),
    ({"feedback": pb.FeedbackPositives(model=99)}, "feedback.model"),  # type: ignore[arg-type]
    (
        {"feedback": pb.FeedbackPositives(start_time=Timestamp(seconds=2), end_time=Timestamp(seconds=1))},
        "feedback.end_time",
    ),
    ({"calibration": pb.Calibration()}, "calibration.judgments"),
    (
        {"calibration": pb.Calibration(target_false_negatives=0.6, judgments=QUERIES)},
        "calibration.target_false_negatives",
    ),
    ({"request_id": "é"}, "request_id"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD)
def test_a_wrong_field_is_named_before_anything_is_begun(
    mining: Mining, wrong: dict[str, Any], field: str
) -> None:
    settings: dict[str, Any] = {"queries": QUERIES[:1]} | wrong
    failure = refused(
        mining.stub.MineHardNegatives, pb.MineHardNegativesRequest(collection="full", **settings)
    )
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.field == field


def test_what_the_job_refuses_ends_the_operation_with_its_type(mining: Mining) -> None:
    failure = mining.failed("full", queries=QUERIES, preset="denoised")
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    failure = mining.failed("full", queries=QUERIES, preset="perc-pos", parameters={"share": 3.0})
    assert (failure.code, failure.field) == (grpc.StatusCode.INVALID_ARGUMENT, "parameters[share]")
    sample = pb.Calibration(judgments=QUERIES[:1])
    failure = mining.failed("full", queries=QUERIES, preset="perc-pos", calibration=sample, negatives=1)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    assert "audit some" in failure.message


def test_unknown_collections_and_sets_are_not_found(mining: Mining) -> None:
    calls: list[tuple[Any, Any]] = [
        (mining.stub.MineHardNegatives, pb.MineHardNegativesRequest(collection="no", queries=QUERIES)),
        (mining.stub.EstimateRelevance, pb.EstimateRelevanceRequest(collection="no")),
        (mining.stub.ListMiningSets, pb.ListMiningSetsRequest(collection="no")),
        (mining.stub.GetMiningSet, pb.GetMiningSetRequest(name="../full")),
    ]
    for call, request in calls:
        assert refused(call, request).code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as raised:
        list(mining.stub.ReadExamples(pb.ReadExamplesRequest(name="no"), timeout=CALL_S))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_repeated_request_id_returns_the_first_operation(mining: Mining) -> None:
    first = mining.start("full", queries=QUERIES[:3], preset="random", request_id="same")
    assert mining.start("full", queries=QUERIES[:3], preset="random", request_id="same").name == first.name
    other = pb.MineHardNegativesRequest(
        collection="full", queries=QUERIES[:4], preset="random", request_id="same"
    )
    assert refused(mining.stub.MineHardNegatives, other).field == "request_id"
    assert mining.wait(first).done


def test_without_the_miner_the_answer_says_what_to_install(
    mining: Mining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry.mining.jobs.NEEDED", ("quarry_miner", "no_such_module"))
    for call, request in [
        (mining.stub.MineHardNegatives, pb.MineHardNegativesRequest(collection="full", queries=QUERIES)),
        (mining.stub.EstimateRelevance, pb.EstimateRelevanceRequest(collection="full")),
    ]:
        failure = refused(call, request)
        assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "pip install quarry-search[miner]" in failure.message


def jobs() -> list[psutil.Process]:
    """Mining jobs that this process has started and that run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "quarry_miner.job" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.01)
    return found


def test_jobs_wait_for_one_another_and_a_cancelled_one_leaves_nothing(mining: Mining) -> None:
    before = mining.names()
    operations = [mining.start("full", queries=QUERIES, preset="random", seed=n) for n in (100, 101)]
    until(jobs, "job")
    assert len(jobs()) == 1
    for operation in operations:
        cancel = operations_pb2.CancelOperationRequest(name=operation.name)
        mining.api.operations.CancelOperation(cancel, timeout=CALL_S)
    for operation in operations:
        assert failure_of(mining.wait(operation)).code is grpc.StatusCode.CANCELLED
    until(lambda: not jobs(), "end")
    assert mining.names() == before
    assert mining.mined("full", queries=QUERIES[:1], preset="random").rows


def test_a_job_that_was_killed_goes_on_to_the_same_rows_when_asked_again(mining: Mining) -> None:
    settings: dict[str, Any] = {"queries": QUERIES, "preset": "quarry", "negatives": 3, "seed": 77}
    killed = 0
    for pause_s in (0.0, 1.0, 2.0):
        operation = mining.start("full", **settings)
        (job,) = until(jobs, "job")
        time.sleep(pause_s)
        try:
            os.kill(job.pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        ended = mining.wait(operation)
        if not ended.HasField("error"):
            break
        failure = failure_of(ended)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "JOB_KILLED")
        killed += 1
    assert killed
    first = mining.examples(mining.mined("full", **settings).name)
    second = mining.examples(mining.mined("full", **settings).name)
    assert first.equals(second)


def test_a_broken_spec_is_a_typed_error(tmp_path: Path) -> None:
    for content, kind in [
        (None, "NotFoundError"),
        (b"{", "InvalidArgumentError"),
        (b"{}", "InvalidArgumentError"),
    ]:
        folder = tmp_path / "mining" / kind
        folder.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / "spec.json").write_bytes(content)
        command = [sys.executable, "-m", "quarry_miner.job", "mine", str(folder)]
        ended = subprocess.run(command, capture_output=True, check=False)
        assert ended.returncode == 1
        assert orjson.loads(ended.stdout.splitlines()[-1])["error"]["kind"] == kind


def test_after_documents_have_changed_only_some_queries_are_mined_again(mining: Mining) -> None:
    api = mining.api
    api.create("changing", schema=SCHEMA_MESSAGE)
    api.upsert("changing", DOCUMENTS)
    settings: dict[str, Any] = {
        "queries": QUERIES,
        "preset": "perc-pos",
        "parameters": LOOSE,
        "negatives": 3,
        "depth": 10,
    }
    mining.mined("changing", **settings)
    api.upsert("changing", {"d200": {"text": "bararata baneli"}, "d100": {"text": WORDS[0]}})
    api.delete("changing", "d090")
    again = mining.mined("changing", **settings)
    reuse = orjson.loads(again.report_json)["reuse"]
    assert reuse["queries"] == 20
    assert 0 < reuse["reused"] < 20
    scratch = mining.mined(
        "changing", **settings, seed=1
    )  # perc-pos draws nothing: the seed only names it anew
    assert orjson.loads(scratch.report_json)["reuse"]["reused"] == 0
    assert mining.examples(scratch.name).equals(mining.examples(again.name))


def test_sets_go_with_their_collection(mining: Mining) -> None:
    api = mining.api
    api.create("brief", schema=SCHEMA_MESSAGE)
    api.upsert("brief", {"a": {"text": "bararata"}, "b": {"text": "baneli bararata"}})
    made = mining.mined("brief", queries=judged({"q": ("bararata", {"a": 1})}), preset="random")

    api.collections.DeleteCollection(
        collection_service_pb2.DeleteCollectionRequest(name="brief"), timeout=CALL_S
    )
    assert refused(mining.stub.GetMiningSet, pb.GetMiningSetRequest(name=made.name)).code is (
        grpc.StatusCode.NOT_FOUND
    )
