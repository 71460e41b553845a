"""Evaluations of re-rankers against a real server: what is compared is what would be served."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.feedback import click, record, stats
from tests.integration.api.helpers.served import Api, served, tiny_settings

from quarry.documents.catalog import get_collection
from quarry.errors import CollectionNotFoundError, DataLossError
from quarry.mining.spec import JudgedQuery
from quarry.models.blend import Blend, write_blend
from quarry.testing import make_tiny_cross_encoder
from quarry.training.hashes import mark_document, mark_queries
from quarry.training.provenance import TrainingProvenance
from quarry.training.spec import EvaluationSpec, ModelRef
from quarry.v1 import search_service_pb2
from quarry_trainer.data.entities import find_entities
from quarry_trainer.data.live import RankedQuery, open_search
from quarry_trainer.data.matching_passages import MatchingPassages, open_documents, read_collection
from quarry_trainer.evaluation.model_evaluation import evaluate_models, score_model
from quarry_trainer.evaluation.scoring import order_by_blend

DOCUMENTS = seeded_documents()
QUERIES = {f"q{n}": " ".join(str(DOCUMENTS[f"d{n:03}"]["text"]).split()[:6]) for n in range(48)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_cross_encoder(tmp_path_factory.mktemp("model"), seed=5)


@pytest.fixture(scope="module")
def api(data: Path, encoder_folder: Path, model: Path) -> Iterator[Api]:
    with served(tiny_settings(data, encoder_folder)) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        api.upsert("full", DOCUMENTS)
        api.create("lexical", schema=SCHEMA_MESSAGE, encoder="none")
        api.upsert("lexical", DOCUMENTS)
        yield api


def key_of(data: Path, name: str) -> int:
    with open_documents(data) as database:
        return database.read(lambda connection: get_collection(connection, name)).key


def ranked(api: Api, data: Path, collection: str) -> list[RankedQuery]:
    with open_search(data, api.address, collection, key_of(data, collection)) as search:
        return search.rank(QUERIES)


def spec_of(api: Api, data: Path, model: Path, **values: object) -> EvaluationSpec:
    return EvaluationSpec(
        name="one",
        collection="full",
        collection_key=key_of(data, "full"),
        server=api.address,
        candidate=ModelRef(name="full@1", folder=str(model)),
        **values,  # type: ignore[arg-type]  # checked by the model
    )


@pytest.mark.parametrize("collection", ["full", "lexical"])
def test_candidates_are_those_of_a_search_that_does_not_re_rank(
    api: Api, data: Path, collection: str
) -> None:
    for query in ranked(api, data, collection):
        found = api.search(
            collection,
            QUERIES[query.query_id],
            page_size=50,
            rerank=search_service_pb2.Rerank(disabled=True),
            explain=True,
        )
        scores = {hit.document.id: hit.score for hit in found.hits}
        fused = dict(zip(query.documents, query.fused.tolist(), strict=True))
        assert fused == pytest.approx(scores, abs=1e-5)
        assert query.fused.tolist() == sorted(query.fused.tolist(), reverse=True)
        assert all(query.passages)
        assert all(query.arms)


@pytest.mark.parametrize("collection", ["full", "lexical"])
def test_a_models_scores_are_those_that_a_search_gives(
    data: Path, encoder_folder: Path, model: Path, api: Api, tmp_path: Path, collection: str
) -> None:
    """The same documents on a server of its own, which offers the model."""
    settings = tiny_settings(tmp_path, encoder_folder)
    models = settings.models.model_copy(update={"rerankers": (str(model),)})
    with served(settings.model_copy(update={"models": models})) as own:
        encoder = {"encoder": "none"} if collection == "lexical" else {}
        own.create(collection, schema=SCHEMA_MESSAGE, reranker=str(model), **encoder)
        own.upsert(collection, DOCUMENTS)
        candidates = ranked(own, tmp_path, collection)
        scored = score_model(ModelRef(name=str(model), folder=str(model)), tmp_path, candidates)
        assert scored.blend == Blend()
        for query, scores in zip(candidates, scored.scores, strict=True):
            found = own.search(collection, query.text, page_size=50, explain=True)
            known = {hit.document.id: hit.explanation.rerank_score for hit in found.hits}
            assert dict(zip(query.documents, scores.tolist(), strict=True)) == pytest.approx(known, abs=1e-4)
            gaps = np.diff(np.sort(scores))
            if gaps.min(initial=1.0) > 1e-3:
                served_order = tuple(hit.document.id for hit in found.hits)
                assert order_by_blend(query, scores, scored.blend) == served_order


def test_passages_are_the_servers(api: Api, data: Path) -> None:
    """Of documents whose first passage is the best one, a search shows the same text."""
    first_only = {id: fields for id, fields in DOCUMENTS.items() if len(str(fields["text"])) < 60}
    with open_documents(data) as database:
        matching = MatchingPassages(database, read_collection(database, key_of(data, "full")), data)
        found = matching("words", [*DOCUMENTS, "not there"])
    assert found.keys() == DOCUMENTS.keys()
    compared = 0
    for query in ranked(api, data, "full"):
        for id, passage in zip(query.documents, query.passages, strict=True):
            if id in first_only:
                assert passage == found[id]
                compared += 1
            else:
                assert found[id]
    assert compared


def test_two_models_are_compared_by_judgments(api: Api, data: Path, model: Path, tmp_path: Path) -> None:
    other = make_tiny_cross_encoder(tmp_path / "other", seed=6)
    write_blend(other, Blend(rerank=0.0, fused=1.0))
    judged = tuple(
        JudgedQuery(id=id, text=text, judgments={f"d{int(id[1:]):03}": 1}) for id, text in QUERIES.items()
    )
    said: list[tuple[str, float]] = []
    folder = data / "training" / "one"
    spec = spec_of(api, data, model, serving=ModelRef(name="full@0", folder=str(other)), judgments=judged)
    report = evaluate_models(spec, folder, lambda stage, share: said.append((stage, share)))
    assert report.source == "judgments"
    assert report.compared_with == "full@0"
    assert report.queries == 48
    values = {(m.subject, m.measure): m.value for m in report.metrics if m.slice == "all"}
    assert values["serving", "nDCG@10"] == values["fused", "nDCG@10"]  # its blend leaves the fused order
    assert values["candidate", "nDCG@10"] < values["fused", "nDCG@10"]  # its weights are chance
    assert report.verdict in ("REGRESSED", "NO_IMPROVEMENT")
    assert [stage for stage, _ in said if stage in ("searching", "scoring", "comparing")]
    assert [share for _, share in said] == sorted(share for _, share in said)
    assert said[-1] == ("comparing", 0.95)
    turned = spec.model_copy(update={"candidate": spec.serving, "serving": spec.candidate})
    assert evaluate_models(turned, folder, lambda stage, share: None).verdict != "REGRESSED"


def test_what_a_model_learned_of_a_title_is_known_and_contradictions_are_named(
    api: Api, data: Path, tmp_path: Path
) -> None:
    candidate = make_tiny_cross_encoder(tmp_path / "candidate", seed=6)
    entitled = [id for id in (f"d{n:03}" for n in range(48)) if DOCUMENTS[id].get("title")]
    things = find_entities(entitled, lambda ids: {id: str(DOCUMENTS[id]["title"]) for id in ids})
    learned = frozenset(mark_document("full", things[id]) for id in entitled[:5])
    TrainingProvenance(entities=learned).write(candidate)
    judged = [JudgedQuery(id=f"q{n}", text=QUERIES[f"q{n}"], judgments={f"d{n:03}": 1}) for n in range(48)]
    judged.append(JudgedQuery(id="again", text=QUERIES["q0"] + "?", judgments={"d000": 0, "d001": 1}))
    spec = spec_of(api, data, candidate, judgments=tuple(judged))
    report = evaluate_models(spec, data / "training" / "one", lambda stage, share: None)
    known = {m.queries for m in report.metrics if (m.slice, m.subject) == ("known", "candidate")}
    expected = sum(
        any(d in things and mark_document("full", things[d]) in learned for d in documents)
        for documents in (*([f"d{n:03}"] for n in range(48)), ["d000", "d001"])
    )
    assert known == {expected}, "the model learned none of the documents, and what five are about"
    assert report.details["disputed"]["count"] == 1  # type: ignore[index]
    assert "counts as relevant" in " ".join(report.advice)


def test_without_judgments_and_clicks_there_is_too_little_data(api: Api, data: Path, model: Path) -> None:
    report = evaluate_models(spec_of(api, data, model), data / "training" / "one", lambda stage, share: None)
    assert report.verdict == "INSUFFICIENT_DATA"
    assert report.source == "clicks"
    assert report.compared_with == ""


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_models_are_compared_in_the_precision_that_serves(
    api: Api, data: Path, tmp_path: Path, precision: str
) -> None:
    model = make_tiny_cross_encoder(tmp_path / "new", seed=7)
    judged = (JudgedQuery(id="q1", text=QUERIES["q1"], judgments={"d001": 1}),)
    before = set(data.rglob("*.int8.onnx"))
    spec = spec_of(api, data, model, judgments=judged, precision=precision)
    evaluate_models(spec, data / "training" / "one", lambda stage, share: None)
    assert (set(data.rglob("*.int8.onnx")) != before) == (precision == "int8")


def test_clicks_on_explored_pages_tell_a_better_model(
    api: Api, data: Path, model: Path, tmp_path: Path
) -> None:
    """Users like what the model would lift, and so it should be found better than what they were shown."""
    liked = make_tiny_cross_encoder(tmp_path / "liked", seed=5)
    candidates = ranked(api, data, "full")
    plain = score_model(ModelRef(name="", folder=str(model)), data, candidates).scores
    spread = np.median(
        [scores.std() / query.fused.std() for query, scores in zip(candidates, plain, strict=True)]
    )
    blend = Blend(rerank=1.0, fused=4.0 * float(spread))
    write_blend(liked, blend)
    lifted: dict[str, set[str]] = {}
    for query, scores in zip(candidates, plain, strict=True):
        order = order_by_blend(query, scores, blend)
        lifted[query.text] = {id for rank, id in enumerate(order) if rank < query.documents.index(id)}
    random, clicks = np.random.default_rng(0), []
    for number in range(960):
        text = list(lifted)[number % len(lifted)]
        context = search_service_pb2.SearchContext(user_id=f"user {number}")
        exploration = search_service_pb2.Exploration(swap_probability=0.5)
        page = api.search("full", text, context=context, exploration=exploration)
        clicks += [
            click(page, place)
            for place, hit in enumerate(page.hits)
            if random.random() < (0.9 if hit.document.id in lifted[text] else 0.15) / (1 + 0.1 * place)
        ]
    for start in range(0, len(clicks), 100):
        assert not any(s.status.code for s in record(api, "full", *clicks[start : start + 100]))
    stats(api, "full")  # waits until all is written
    spec = spec_of(api, data, liked)
    report = evaluate_models(spec, data / "training" / "one", lambda stage, share: None)
    assert report.source == "clicks"
    assert report.verdict == "IMPROVED", report.advice
    found = {(e.estimator, e.subject): e for e in report.off_policy}
    assert found["doubly_robust", "candidate"].support > 0.8
    assert found["doubly_robust", "difference"].lower > 0
    assert found["snips", "candidate"].value > found["snips", "fused"].value
    judged = tuple(
        JudgedQuery(id=id, text=text, judgments={f"d{int(id[1:]):03}": 1}) for id, text in QUERIES.items()
    )
    by_judgments = spec.model_copy(update={"judgments": judged})
    sliced = evaluate_models(by_judgments, data / "training" / "one", lambda stage, share: None)
    assert {"head", "tail"} <= {one.slice for one in sliced.metrics}
    served_now = spec.model_copy(update={"serving": spec.candidate})
    same = evaluate_models(served_now, data / "training" / "one", lambda stage, share: None)
    assert same.verdict == "NO_IMPROVEMENT"
    assert same.details["provenance"]["kept_out"] == 0  # type: ignore[index]
    rival = make_tiny_cross_encoder(tmp_path / "rival", seed=6)
    TrainingProvenance(queries=mark_queries(list(QUERIES.values())[:10])).write(liked)
    TrainingProvenance(queries=mark_queries(list(QUERIES.values())[10:12])).write(rival)
    held_out = spec.model_copy(update={"serving": ModelRef(name="full@0", folder=str(rival))})
    for one, kept_out in ((spec, 10), (held_out, 12)):
        told = evaluate_models(one, data / "training" / "one", lambda stage, share: None)
        assert told.source == "clicks"
        assert 0 < told.queries <= 48 - kept_out
        assert told.details["provenance"]["kept_out"] == kept_out  # type: ignore[index]
        by_judgments = one.model_copy(update={"judgments": judged})
        sliced = evaluate_models(by_judgments, data / "training" / "one", lambda stage, share: None)
        assert sliced.queries == 48 - kept_out


def test_a_folder_of_no_server_and_a_collection_that_is_gone_are_errors(
    api: Api, data: Path, model: Path, tmp_path: Path
) -> None:
    spec = spec_of(api, data, model)
    with pytest.raises(DataLossError):
        evaluate_models(spec, tmp_path / "training" / "one", lambda stage, share: None)
    gone = spec.model_copy(update={"collection_key": 999})
    with pytest.raises(CollectionNotFoundError):
        evaluate_models(gone, data / "training" / "one", lambda stage, share: None)
