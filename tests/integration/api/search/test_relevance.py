"""Relevance over the API: it comes with a version, goes with it, and bounds a search."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
from scipy.special import expit
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS, seeded_documents
from tests.integration.api.helpers.models import Models, tar_of, tiny_reranker
from tests.integration.api.helpers.served import Api, Failure, failure

from quarry.models.blend import Blend
from quarry.models.calibration import CALIBRATION_FILE, Calibration, write_calibration
from quarry.v1 import search_service_pb2 as search_pb
from quarry_trainer.data.judged_sample import CandidateSample
from quarry_trainer.evaluation.calibrating import fit_calibration

DOCUMENTS = seeded_documents(size=30)
ALL = {"page_size": 100, "return_fields": ["-"], "unlogged": True}
PLAIN = Calibration(
    slope=1.0, intercept=0.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02, ece_all=0.01
)


@pytest.fixture
def models(api: Api) -> Models:
    return Models(api)


@pytest.fixture
def collection(api: Api, new_name: Callable[[], str]) -> str:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, DOCUMENTS)
    return name


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reranker(tmp_path_factory.mktemp("plain"), seed=21)


def calibrated(folder: Path, target: Path, calibration: Calibration) -> Path:
    shutil.copytree(folder, target)
    write_calibration(target, calibration)
    return target


def refusal(api: Api, collection: str, query: str = "rata", **settings: object) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        api.search(collection, query, **settings)
    return failure(caught.value)


def scores(api: Api, collection: str, query: str, model: str) -> dict[str, float]:
    rerank = {"model": model, "depth": 100}
    answer = api.search(collection, query, rerank=rerank, explain=True, **ALL)
    return {hit.document.id: hit.explanation.raw_score for hit in answer.hits}


def test_a_bound_without_anything_that_tells_relevance_is_refused(
    api: Api, models: Models, collection: str, plain_folder: Path
) -> None:
    failed = refusal(api, collection, min_relevance=0.5)
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_CALIBRATED")
    assert "has no re-ranker" in failed.message
    models.promote(models.imported(collection, plain_folder).name)
    failed = refusal(api, collection, min_relevance=0.5)
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_CALIBRATED")
    assert "train a re-ranker with judged queries" in failed.message
    assert not any(hit.HasField("relevance") for hit in api.search(collection, "rata").hits)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_relevance": 0.0},
        {"min_relevance": 1.5},
        {"min_relevance": float("nan")},
        {"min_relevance": 0.5, "query": " "},
        {"min_relevance": 0.5, "rerank": {"disabled": True}},
    ],
)
def test_a_bound_that_makes_no_sense_is_refused(api: Api, reranked: str, settings: dict[str, object]) -> None:
    failed = refusal(api, reranked, **settings)  # type: ignore[arg-type]
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "min_relevance")


def test_pages_hold_what_reaches_the_bound_and_nothing_else(
    api: Api, models: Models, collection: str, plain_folder: Path, tmp_path: Path
) -> None:
    made = models.imported(collection, calibrated(plain_folder, tmp_path / "m", PLAIN))
    assert (made.calibration.formula, made.calibration.queries, made.calibration.ece) == ("platt", 40, 0.02)
    models.promote(made.name)
    whole = api.search(collection, "rata neli", explain=True, **ALL)
    assert whole.hits and not whole.degraded
    for hit in whole.hits:
        raw = hit.explanation.raw_score
        assert hit.relevance == pytest.approx(float(PLAIN.estimate_probability(raw)))
    middle = float(np.median([hit.relevance for hit in whole.hits]))
    wanted = [hit.document.id for hit in whole.hits if hit.relevance >= middle]
    request = {
        "collection": collection,
        "query": "rata neli",
        "min_relevance": middle,
        "return_fields": ["-"],
    }
    pages = [api.searches.Search(search_pb.SearchRequest(page_size=4, **request))]
    while pages[-1].next_page_token:
        token = pages[-1].next_page_token
        pages.append(api.searches.Search(search_pb.SearchRequest(page_size=4, page_token=token, **request)))
    hits = [hit for page in pages for hit in page.hits]
    assert [hit.document.id for hit in hits] == wanted
    assert [hit.rank for hit in hits] == list(range(1, len(wanted) + 1))
    assert all(hit.relevance >= middle for hit in hits)
    assert {page.total.count for page in pages} == {len(wanted)}
    assert {page.total.relation for page in pages} == {search_pb.TOTAL_RELATION_EXACT}
    assert pages[0].ranking_configuration != whole.ranking_configuration
    failed = refusal(
        api, collection, "rata neli", page_token=pages[0].next_page_token, min_relevance=middle / 2,
        return_fields=["-"],
    )  # fmt: skip
    assert failed.field == "page_token"
    nothing = api.search(collection, "rata neli", min_relevance=1.0)
    assert (len(nothing.hits), nothing.total.count, len(nothing.degraded)) == (0, 0, 0)
    assert nothing.attribution_token  # that nothing was relevant is logged as any answer is


def test_a_rolled_back_version_brings_its_own_calibration_back(
    api: Api, models: Models, collection: str, plain_folder: Path, tmp_path: Path
) -> None:
    other = PLAIN.model_copy(update={"intercept": 2.0})
    first = models.imported(collection, calibrated(plain_folder, tmp_path / "1", PLAIN)).name
    second = models.imported(collection, calibrated(plain_folder, tmp_path / "2", other)).name
    seen = []
    for change in (lambda: models.promote(first), lambda: models.promote(second)):
        change()
        seen.append({h.document.id: h.relevance for h in api.search(collection, "rata", **ALL).hits})
    models.rollback(collection)
    back = {h.document.id: h.relevance for h in api.search(collection, "rata", **ALL).hits}
    assert back == seen[0] and all(seen[1][id] > value for id, value in seen[0].items())
    again = models.imported(collection, archive=models.exported(second))
    assert again.calibration == models.get(second).calibration
    assert again.calibration.intercept == 2.0


def test_a_version_with_a_broken_calibration_is_refused(
    models: Models, collection: str, plain_folder: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(plain_folder, tmp_path / "broken")
    (broken / CALIBRATION_FILE).write_text('{"formula": "platt", "slope": -1}')
    before = models.names()
    with pytest.raises(grpc.RpcError) as caught:
        models.imported(collection, archive=tar_of(broken))
    failed = failure(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNUSABLE")
    assert CALIBRATION_FILE in failed.message and models.names() == before


def test_a_threshold_keeps_its_meaning_over_a_promotion(
    api: Api, models: Models, collection: str, tmp_path: Path
) -> None:
    """Two models whose scores have other scales and other orders, each right about half of what counts."""
    random = np.random.default_rng(3)
    queries = [" ".join(random.choice(WORDS, 3)) for _ in range(80)]
    folders = [
        tiny_reranker(tmp_path / "a", seed=31),
        tiny_reranker(tmp_path / "b", seed=32, blend=Blend(rerank=40.0)),
    ]
    plain = [models.imported(collection, folder).name for folder in folders]
    found = [[scores(api, collection, query, name) for query in queries] for name in plain]
    spread = [np.array([list(one.values()) for one in own]) for own in found]
    relevant: list[Mapping[str, bool]] = []
    for first, second in zip(*found, strict=True):
        odds = {
            id: sum(
                2.0 * (own[id] - all.mean()) / all.std()
                for own, all in zip((first, second), spread, strict=True)
            )
            for id in first
        }
        relevant.append({id: bool(random.random() < expit(one - 1.5)) for id, one in odds.items()})

    def sample(own: list[dict[str, float]]) -> CandidateSample:
        values = np.array([sorted(one.values(), reverse=True) for one in own])
        labels = [
            [relevant[n][id] for id in sorted(one, key=one.__getitem__, reverse=True)]
            for n, one in enumerate(own)
        ]
        size = values.shape[1]
        return CandidateSample(
            values.ravel(),
            np.array(labels).ravel(),
            np.tile(np.arange(1, size + 1), len(own)),
            np.repeat(np.arange(len(own)), size),
            np.zeros(values.size, np.bool_),
            len(own),
        )

    precision = []
    for place, own in enumerate(found):
        calibration, _ = fit_calibration(sample(own[:40]))
        folder = calibrated(folders[place], tmp_path / f"calibrated-{place}", calibration)
        models.promote(models.imported(collection, folder).name)
        shown = [
            relevant[n][hit.document.id]
            for n in range(40, 80)
            for hit in api.search(collection, queries[n], min_relevance=0.5, **ALL).hits
        ]
        assert len(shown) > 100
        precision.append(float(np.mean(shown)))
    assert min(precision) > 0.5 and abs(precision[0] - precision[1]) < 0.12
