"""`TuneRanking` over the API with the real trainer: fitted, gated, served, named, and taken back.

The encoder's weights are random, so the default shares are those of other models and other texts.
"""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from google.longrunning import operations_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS, seeded_documents
from tests.integration.api.helpers.mining import failure_of, judged
from tests.integration.api.helpers.models import Models, tiny_reranker
from tests.integration.api.helpers.served import CALL_S, Api, refused, served, tiny_settings
from tests.integration.api.helpers.training import JOB_S, Training, until

from quarry.models.blend import Blend
from quarry.models.calibration import Calibration, write_calibration
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import training_service_pb2 as training_pb
from quarry_trainer.measures import measure_per_query

DOCUMENTS = seeded_documents()
IDS = sorted(DOCUMENTS)
QUERIES = {f"q{n}": (str(DOCUMENTS[id]["text"])[:30], {id: 1}) for n, id in enumerate(IDS[:40])}
SUM = pb.Fusion(weighted_sum=pb.WeightedSum())
CALIBRATION = Calibration(
    slope=1.0, intercept=0.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02, ece_all=0.01
)


class Tuning(Training):
    def tune(self, collection: str, **settings: Any) -> operations_pb2.Operation:
        request = training_pb.TuneRankingRequest(collection=collection, **settings)
        return self.wait(self.stub.TuneRanking(request, timeout=CALL_S), JOB_S)

    def tuned(self, collection: str, **settings: Any) -> models_pb.Ranking:
        operation = self.tune(collection, **settings)
        assert operation.done
        assert not operation.HasField("error"), operation.error
        found = models_pb.Ranking()
        assert operation.response.Unpack(found)
        return found

    def promote(self, name: str, **settings: Any) -> models_pb.PromoteRankingResponse:
        request = models_pb.PromoteRankingRequest(name=name, **settings)
        return self.models.PromoteRanking(request, timeout=CALL_S)

    def roll_back(self, collection: str) -> models_pb.RollbackRankingResponse:
        request = models_pb.RollbackRankingRequest(collection=collection)
        return self.models.RollbackRanking(request, timeout=CALL_S)

    def refusal_to_promote(self, name: str, **settings: Any) -> grpc.StatusCode:
        request = models_pb.PromoteRankingRequest(name=name, **settings)
        return refused(self.models.PromoteRanking, request).code

    def field_refused(self, **settings: Any) -> str:
        request = pb.SearchRequest(collection="full", query="x", **settings)
        said = refused(self.api.searches.Search, request)
        assert said.code is grpc.StatusCode.INVALID_ARGUMENT
        return said.field

    def serving(self, collection: str) -> str:
        request = collections_pb.GetCollectionRequest(name=collection)
        return self.api.collections.GetCollection(request, timeout=CALL_S).collection.ranking


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def tuning(folder: Path, encoder_folder: Path) -> Iterator[Tuning]:
    with served(tiny_settings(folder, encoder_folder)) as api:
        yield Tuning(filled(api, "full"))


@pytest.fixture(scope="module")
def made(tuning: Tuning) -> models_pb.Ranking:
    return tuning.tuned("full", judgments=judged(QUERIES))


def filled(api: Api, name: str, **settings: Any) -> Api:
    api.create(name, schema=SCHEMA_MESSAGE, **settings)
    api.upsert(name, DOCUMENTS)
    return api


def order(answer: pb.SearchResponse) -> list[str]:
    return [hit.document.id for hit in answer.hits]


def test_what_is_better_on_held_out_queries_is_proven_so_and_waits(
    tuning: Tuning, made: models_pb.Ranking
) -> None:
    assert (made.name, made.collection, made.queries) == ("full/ranking@1", "full", 40)
    assert made.verdict == models_pb.MODEL_VERDICT_IMPROVED, made.advice
    assert made.state == models_pb.MODEL_STATE_CANDIDATE
    weights = {arm.name: arm.weight for arm in made.arms}
    assert weights.keys() == {"bm25", "dense"}
    assert sum(weights.values()) == pytest.approx(1)
    assert weights != {"bm25": 0.25, "dense": 0.75}
    figures = {metric.subject: metric for metric in made.metrics if metric.measure == "nDCG@10"}
    assert figures["difference"].lower > 0
    assert figures["candidate"].value > figures["serving"].value
    assert sum(fold.queries for fold in made.folds) == 40
    mean = sum(fold.after * fold.queries for fold in made.folds) / 40
    assert mean == pytest.approx(figures["candidate"].value)
    assert tuning.serving("full") == ""


def test_searches_are_merged_by_what_serves_and_say_so(tuning: Tuning, made: models_pb.Ranking) -> None:
    text = QUERIES["q0"][0]
    before = tuning.api.search("full", text, page_size=50, explain=True)
    assert (before.ranking, {w.arm: w.weight for w in before.weights}) == ("", {"bm25": 0.25, "dense": 0.75})
    assert tuning.promote(made.name).previous == ""
    try:
        assert tuning.serving("full") == made.name
        answer = tuning.api.search("full", text, page_size=50, explain=True)
        assert answer.ranking == made.name
        assert answer.ranking_configuration != before.ranking_configuration
        same = {"arms": made.arms, "fusion": made.fusion}
        stated = tuning.api.search("full", text, page_size=50, explain=True, **same)
        assert stated.ranking == ""
        assert order(stated) == order(answer)
        assert list(stated.weights) == list(answer.weights)
        by_hand = tuning.api.search("full", text, page_size=50, fusion=SUM)
        assert (by_hand.ranking, order(by_hand)) == ("", order(before))
    finally:
        assert tuning.roll_back("full").serving == ""
    after = tuning.api.search("full", text, page_size=50)
    assert (after.ranking, order(after)) == ("", order(before))
    assert after.ranking_configuration == before.ranking_configuration


def test_weights_of_a_query_are_what_its_configuration_says(tuning: Tuning) -> None:
    traits = [pb.QueryTrait(name=name, slope=1.0, mean=0.5, deviation=0.5) for name in ("words", "agreement")]
    by_query = pb.Fusion(weighted_sum=pb.WeightedSum(by_query=traits))
    answers = [
        tuning.api.search("full", text, fusion=by_query, explain=True)
        for text, _ in list(QUERIES.values())[:10]
    ]
    shares = {round(weight.weight, 6) for answer in answers for weight in answer.weights}
    assert len(shares) > 2
    assert all(0 < share < 1 for share in shares)


def test_the_same_judgments_decide_at_a_higher_level_the_second_time(
    tuning: Tuning, made: models_pb.Ranking
) -> None:
    again = tuning.tuned("full", judgments=judged(QUERIES), seed=1)
    assert again.name != made.name
    assert "decided 1 time before" in " ".join(again.advice)


def test_who_asks_for_it_promotes_only_over_what_the_version_was_compared_with(
    tuning: Tuning, made: models_pb.Ranking
) -> None:
    other = tuning.tuned("full", judgments=judged(QUERIES), seed=2)
    tuning.promote(other.name)
    try:
        refusal = tuning.refusal_to_promote(made.name, if_unchanged=True)
        assert refusal is grpc.StatusCode.FAILED_PRECONDITION
        assert tuning.serving("full") == other.name
    finally:
        tuning.roll_back("full")
    try:
        for _ in range(2):
            assert tuning.promote(made.name, if_unchanged=True).ranking.name == made.name
    finally:
        assert tuning.roll_back("full").serving == ""


def test_versions_are_listed_and_shown(tuning: Tuning, made: models_pb.Ranking) -> None:
    request = models_pb.ListRankingsRequest(collection="full")
    listed = tuning.models.ListRankings(request, timeout=CALL_S).rankings
    assert listed[-1].name == made.name
    in_pages, paged = [], models_pb.ListRankingsRequest(collection="full", page_size=1)
    while not in_pages or paged.page_token:
        answer = tuning.models.ListRankings(paged, timeout=CALL_S)
        in_pages += answer.rankings
        paged.page_token = answer.next_page_token
    assert in_pages == list(listed)
    assert not listed[-1].report_json
    got = tuning.models.GetRanking(models_pb.GetRankingRequest(name=made.name), timeout=CALL_S).ranking
    assert list(got.folds) == list(made.folds)
    assert got.report_json


def test_a_policy_promotes_and_a_restart_and_a_deletion_know_what_serves(
    tmp_path: Path, encoder_folder: Path
) -> None:
    settings = tiny_settings(tmp_path / "data", encoder_folder)
    (tmp_path / "data").mkdir()
    with served(settings) as api:
        tuning = Tuning(filled(api, "own", promotion=collections_pb.PROMOTION_POLICY_WHEN_IMPROVED))
        made = tuning.tuned("own", judgments=judged(QUERIES))
        assert (made.state, made.promoted_by) == (models_pb.MODEL_STATE_SERVING, "policy"), made.advice
    with served(settings) as api:
        tuning = Tuning(api)
        assert api.search("own", "anything").ranking == made.name
        api.collections.DeleteCollection(collections_pb.DeleteCollectionRequest(name="own"), timeout=CALL_S)
        filled(api, "own")
        assert api.search("own", "anything").ranking == ""
        assert tuning.refusal_to_promote(made.name) is grpc.StatusCode.NOT_FOUND
        back = models_pb.RollbackRankingRequest(collection="own")
        assert refused(tuning.models.RollbackRanking, back).code is grpc.StatusCode.FAILED_PRECONDITION


def test_too_few_judged_queries_are_refused(tuning: Tuning) -> None:
    few = dict(list(QUERIES.items())[:19])
    request = training_pb.TuneRankingRequest(collection="full", judgments=judged(few))
    said = refused(tuning.stub.TuneRanking, request)
    assert (said.code, said.field) == (grpc.StatusCode.INVALID_ARGUMENT, "judgments")


def test_judgments_of_unknown_documents_are_bad_data_and_no_version(tuning: Tuning) -> None:
    unknown = {id: (text, {f"not-{id}": 1}) for id, (text, _) in QUERIES.items()}
    found = tuning.tuned("full", judgments=judged(unknown))
    assert (found.name, found.verdict) == ("", models_pb.MODEL_VERDICT_BAD_DATA)
    assert found.advice


def test_queries_on_one_title_are_one_question_and_absent_documents_are_counted(tuning: Tuning) -> None:
    tuning.api.create("titled", schema=SCHEMA_MESSAGE)
    titles = {id: f"{WORDS[n // 2 % len(WORDS)]} {n // 2}" for n, id in enumerate(IDS)}
    tuning.api.upsert("titled", {id: {**own, "title": titles[id]} for id, own in DOCUMENTS.items()})
    gone = {"gone": ("a question on nothing", {"no-document": 1})}
    found = tuning.tuned("titled", judgments=judged(QUERIES | gone))
    details = orjson.loads(found.report_json)["evaluation"]["details"]
    assert details["clusters"] == len(QUERIES) // 2 + 1
    assert details["absent"] == {"count": 1, "of": len(QUERIES) + 1, "examples": ["no-document"]}
    assert any("1 of 41 documents" in said for said in found.advice)


def test_feedback_that_is_not_there_is_no_version(tuning: Tuning) -> None:
    found = tuning.tuned("full")
    assert found.name == ""
    assert found.verdict in (models_pb.MODEL_VERDICT_BAD_DATA, models_pb.MODEL_VERDICT_INSUFFICIENT_DATA)


def test_a_collection_with_one_arm_has_its_title_weight_tuned(tuning: Tuning) -> None:
    filled(tuning.api, "lexical", encoder="none")
    found = tuning.tuned("lexical", judgments=judged(QUERIES))
    assert [arm.name for arm in found.arms] == ["bm25"]
    assert not found.fusion.weighted_sum.by_query


def test_a_configuration_that_is_not_there_is_not_found(tuning: Tuning) -> None:
    for name in ("full/ranking@99", "full@1", "nonsense", ""):
        assert tuning.refusal_to_promote(name) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("fusion", "field"),
    [
        ([pb.QueryTrait(name="colour", slope=1, deviation=1)], "fusion.weighted_sum.by_query[0].name"),
        ([pb.QueryTrait(name="words", slope=1)], "fusion.weighted_sum.by_query[0].deviation"),
        (
            [pb.QueryTrait(name="words", slope=math.nan, deviation=1)],
            "fusion.weighted_sum.by_query[0].slope",
        ),
        ([pb.QueryTrait(name="words", deviation=1)] * 2, "fusion.weighted_sum.by_query[1].name"),
    ],
)
def test_a_search_with_weights_that_are_none_is_refused(
    tuning: Tuning, fusion: list[pb.QueryTrait], field: str
) -> None:
    weighted = pb.Fusion(weighted_sum=pb.WeightedSum(by_query=fusion))
    assert tuning.field_refused(fusion=weighted) == field


@pytest.mark.parametrize("scale", [-1.0, 100.1, float("inf"), float("nan")])
def test_a_boost_scale_has_limits(tuning: Tuning, scale: float) -> None:
    assert tuning.field_refused(arms=[pb.Arm(name="bm25", boost_scale=scale)]) == "arms[0].boost_scale"
    assert tuning.field_refused(arms=[pb.Arm(name="dense", boost_scale=2)]) == "arms[0].boost_scale"


def test_what_is_compared_is_re_ranked_as_people_see_it(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path
) -> None:
    reranker = str(cross_encoder_folder)
    with served(tiny_settings(tmp_path, encoder_folder, models={"rerankers": (reranker,)})) as api:
        tuning = Tuning(filled(api, "own", reranker=reranker))
        made = tuning.tuned("own", judgments=judged(QUERIES))
        assert made.reranker == reranker
        assert "blend" in " ".join(made.advice)
        figures = {m.subject: m.value for m in made.metrics if m.measure == "nDCG@10"}
        ranked = {id: order(api.search("own", text, page_size=50)) for id, (text, _) in QUERIES.items()}
        judgments = {id: dict(grades) for id, (_, grades) in QUERIES.items()}
        assert figures["serving"] == pytest.approx(measure_per_query(ranked, judgments)["nDCG@10"].mean())
        without = collections_pb.UpdateCollectionRequest(
            collection=collections_pb.Collection(name="own"), update_mask=FieldMask(paths=["reranker"])
        )
        api.collections.UpdateCollection(without, timeout=CALL_S)
        refusal = tuning.refusal_to_promote(made.name, if_unchanged=True)
        assert refusal is grpc.StatusCode.FAILED_PRECONDITION
        tuning.promote(made.name)


def test_a_configuration_that_ends_relevance_is_left_to_a_person_and_taken_back_brings_it_back(
    tmp_path: Path, encoder_folder: Path
) -> None:
    (tmp_path / "data").mkdir()
    with served(tiny_settings(tmp_path / "data", encoder_folder)) as api:
        policy = collections_pb.PROMOTION_POLICY_WHEN_IMPROVED
        tuning, models = Tuning(filled(api, "own", promotion=policy)), Models(api)
        reranker = tiny_reranker(tmp_path / "reranker", seed=21, blend=Blend(rerank=1e-6, fused=1.0))
        write_calibration(reranker, CALIBRATION)
        models.promote(models.imported("own", reranker).name)
        made = tuning.tuned("own", judgments=judged(QUERIES))
        assert made.verdict == models_pb.MODEL_VERDICT_IMPROVED, made.advice
        assert list(made.cautions) == [models_pb.MODEL_CAUTION_NO_RELEVANCE]
        assert made.state == models_pb.MODEL_STATE_CANDIDATE

        def gives_relevance() -> bool:
            return api.search("own", QUERIES["q0"][0]).hits[0].HasField("relevance")

        assert gives_relevance()
        tuning.promote(made.name)
        assert not gives_relevance()
        tuning.roll_back("own")
        assert gives_relevance()


def test_answers_are_logged_with_the_configuration_that_merged_them(
    tuning: Tuning, made: models_pb.Ranking, folder: Path
) -> None:
    tuning.promote(made.name)
    try:
        tuned = tuning.api.search("full", "a question that is asked once").search_id
        own = tuning.api.search("full", "a question that is asked once", fusion=SUM).search_id
    finally:
        tuning.roll_back("full")

    def logged() -> dict[str, str]:
        with closing(sqlite3.connect(folder / "feedback.db")) as log:
            rows = log.execute("SELECT search_id, details FROM impressions").fetchall()
        return {search: orjson.loads(details).get("tuned", "") for search, details in rows}

    until(lambda: {tuned, own} <= logged().keys(), "impressions")
    assert (logged()[tuned], logged()[own]) == (made.name, "")


def test_a_tuning_that_is_cancelled_leaves_no_version(tuning: Tuning) -> None:
    listed = models_pb.ListRankingsRequest(collection="full")
    before = len(tuning.models.ListRankings(listed, timeout=CALL_S).rankings)
    request = training_pb.TuneRankingRequest(collection="full", judgments=judged(QUERIES), seed=7)
    operation = tuning.stub.TuneRanking(request, timeout=CALL_S)
    tuning.cancel(operation)
    assert failure_of(tuning.wait(operation)).code is grpc.StatusCode.CANCELLED
    assert len(tuning.models.ListRankings(listed, timeout=CALL_S).rankings) == before
