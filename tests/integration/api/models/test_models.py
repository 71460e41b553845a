"""The registry over the API: what is registered serves, is taken back, goes out and comes in again."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.models import BLEND, Models, import_stream, tar_of
from tests.integration.api.helpers.served import CALL_S, Api, Failure, failure, refused
from tests.unit.registry.small import RESULT

from quarry.registry.archive import VERSION_FILE, Passport
from quarry.v1 import collection_service_pb2
from quarry.v1 import model_service_pb2 as pb

QUERY = "the rata neli of ba"


def test_a_promoted_version_answers_the_next_search_and_a_rollback_takes_it_back(
    api: Api, models: Models, collection: str, first_folder: Path, second_folder: Path
) -> None:
    first = models.imported(collection, first_folder, description="the first")
    second = models.imported(collection, second_folder)
    assert (first.name, second.name) == (f"{collection}@1", f"{collection}@2")
    assert not api.search(collection, QUERY).reranker
    unknown = refused(models.stub.PromoteModel, pb.PromoteModelRequest(name=first.name, if_unchanged=True))
    assert unknown.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "nothing says what it was compared with" in unknown.message
    assert models.promote(first.name, promoted_by="me", reason="why not").previous == ""
    assert api.search(collection, QUERY).reranker == first.name
    promoted = models.promote(second.name)
    assert promoted.previous == first.name
    assert promoted.model.state == pb.MODEL_STATE_SERVING
    answer = api.search(collection, QUERY, explain=True)
    assert answer.reranker == second.name
    for hit in answer.hits:
        explained = hit.explanation
        assert explained.raw_score == BLEND.score(explained.rerank_score, explained.fused_score)
    assert models.get(first.name).state == pb.MODEL_STATE_CANDIDATE
    assert models.get(first.name).promoted_by == "me"
    rolled = models.rollback(collection)
    assert (rolled.serving, rolled.previous) == (first.name, second.name)
    assert api.search(collection, QUERY).reranker == first.name
    rolled = models.rollback(collection)
    assert (rolled.serving, rolled.previous) == ("", first.name)
    assert not api.search(collection, QUERY).reranker


def test_a_search_may_ask_for_any_version_of_its_collection(
    api: Api, models: Models, collection: str, new_name: Callable[[], str], second_folder: Path
) -> None:
    version = models.imported(collection, second_folder).name
    assert api.search(collection, QUERY, rerank={"model": version}).reranker == version
    assert not api.search(collection, QUERY).reranker
    other = api.create(new_name(), encoder="none").name
    for asked, where, code, field in (
        (version, other, grpc.StatusCode.INVALID_ARGUMENT, "rerank.model"),
        (f"{collection}@99", collection, grpc.StatusCode.NOT_FOUND, ""),
    ):
        failed = search_failure(api, where, asked)
        assert (failed.code, failed.field) == (code, field)
    models.retire(version)
    assert search_failure(api, collection, version).code is grpc.StatusCode.FAILED_PRECONDITION


def search_failure(api: Api, collection: str, model: str) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        api.search(collection, QUERY, rerank={"model": model})
    return failure(caught.value)


def test_versions_are_listed_newest_first_in_pages(
    models: Models, collection: str, first_folder: Path
) -> None:
    made = [models.imported(collection, first_folder).name for _ in range(3)]
    found: list[str] = []
    request = pb.ListModelsRequest(collection=collection, page_size=2)
    while True:
        answer = models.stub.ListModels(request, timeout=CALL_S)
        found += [model.name for model in answer.models]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert found == made[::-1]
    assert set(found) <= set(models.names())
    request.collection = "another"
    assert refused(models.stub.ListModels, request).field == "page_token"


def test_promotions_and_rollbacks_happen_once(
    api: Api, models: Models, collection: str, first_folder: Path, second_folder: Path
) -> None:
    first, second = (models.imported(collection, f).name for f in (first_folder, second_folder))
    models.promote(first)
    promoted = models.promote(second, request_id="p")
    assert models.promote(first).previous == second
    again = models.promote(second, request_id="p")
    assert (again.previous, promoted.previous) == (first, first)
    assert api.search(collection, QUERY).reranker == first
    reused = pb.PromoteModelRequest(name=first, request_id="p")
    assert refused(models.stub.PromoteModel, reused).field == "request_id"
    rolled = models.rollback(collection, request_id="r")
    assert models.rollback(collection, request_id="r") == rolled
    assert api.search(collection, QUERY).reranker == second == rolled.serving
    models.rollback(collection)
    models.retire(second)
    assert models.promote(second, request_id="p").previous == first


def test_what_cannot_be_promoted_says_why_and_changes_nothing(
    api: Api, models: Models, collection: str, encoder_folder: Path, first_folder: Path
) -> None:
    encoder = models.imported(collection, encoder_folder, kind=pb.MODEL_KIND_ENCODER)
    assert encoder.kind == pb.MODEL_KIND_ENCODER
    failed = refused(models.stub.PromoteModel, pb.PromoteModelRequest(name=encoder.name))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert f"quarry collection reindex {collection} --encoder {encoder.name}" in failed.message
    retired = models.retire(models.imported(collection, first_folder).name)
    assert retired.state == pb.MODEL_STATE_RETIRED
    assert models.get(retired.name).artefact_hash
    for name, code in (
        (retired.name, grpc.StatusCode.FAILED_PRECONDITION),
        (f"{collection}@99", grpc.StatusCode.NOT_FOUND),
        ("", grpc.StatusCode.NOT_FOUND),
    ):
        assert refused(models.stub.PromoteModel, pb.PromoteModelRequest(name=name)).code is code
    nothing = refused(models.stub.RollbackModel, pb.RollbackModelRequest(collection=collection))
    assert nothing.code is grpc.StatusCode.FAILED_PRECONDITION
    long = pb.PromoteModelRequest(name=encoder.name, promoted_by="x" * 129)
    assert refused(models.stub.PromoteModel, long).field == "promoted_by"
    assert not api.search(collection, QUERY).reranker


def test_what_serves_is_not_retired(models: Models, collection: str, first_folder: Path) -> None:
    name = models.imported(collection, first_folder).name
    models.promote(name)
    failed = refused(models.stub.RetireModel, pb.RetireModelRequest(name=name))
    assert (failed.code, "serves" in failed.message) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    models.rollback(collection)
    models.retire(name)
    assert models.names(collection) == [name]


def test_a_collections_reranker_set_by_hand_counts_as_promoted(
    api: Api, models: Models, collection: str, cross_encoder_folder: Path, first_folder: Path
) -> None:
    name = models.imported(collection, first_folder).name
    assert update(api, collection, str(cross_encoder_folder)).reranker == str(cross_encoder_folder)
    assert update(api, collection, name).reranker == name
    assert models.get(name).state == pb.MODEL_STATE_SERVING
    assert models.rollback(collection).serving == str(cross_encoder_folder)
    assert models.rollback(collection).serving == ""
    models.retire(name)
    with pytest.raises(grpc.RpcError) as caught:
        update(api, collection, name)
    assert failure(caught.value).code is grpc.StatusCode.FAILED_PRECONDITION


def update(api: Api, collection: str, reranker: str) -> Any:
    request = collection_service_pb2.UpdateCollectionRequest(
        collection={"name": collection, "reranker": reranker},
        update_mask={"paths": ["reranker"]},
        unproven=True,
    )
    return api.collections.UpdateCollection(request, timeout=CALL_S).collection


def test_another_collections_version_serves_only_once_it_is_imported(
    api: Api, models: Models, collection: str, new_name: Callable[[], str], second_folder: Path
) -> None:
    theirs = models.imported(collection, second_folder, description="theirs")
    with pytest.raises(grpc.RpcError) as caught:
        api.create(new_name(), encoder="none", reranker=theirs.name)
    assert failure(caught.value).code is grpc.StatusCode.FAILED_PRECONDITION
    own = api.create(new_name(), encoder="none").name
    with pytest.raises(grpc.RpcError):
        update(api, own, theirs.name)
    imported = models.imported(own, theirs.name)
    assert (imported.name, imported.description) == (f"{own}@1", "theirs")
    assert (imported.artefact_hash, imported.blend) == (theirs.artefact_hash, theirs.blend)
    models.promote(imported.name)


def test_an_export_comes_back_as_it_went(
    models: Models, collection: str, second_folder: Path, tmp_path: Path
) -> None:
    archive = trained_archive(second_folder, tmp_path)
    made = models.imported(collection, archive=archive)
    assert made.verdict == pb.MODEL_VERDICT_IMPROVED
    assert (made.lineage.base, made.lineage.loss, made.lineage.steps) == ("a-base", "lce", 7)
    assert made.lineage.simulated
    assert made.lineage.quarry_version == "9.9"
    assert (made.blend.rerank, made.blend.fused) == (0.5, 2.0)
    assert [(m.subject, m.value) for m in made.metrics] == [("difference", 0.02)]
    assert made.description == "made elsewhere"
    assert made.report_json
    again = models.imported(collection, archive=models.exported(made.name))
    for field in ("lineage", "metrics", "blend", "verdict", "advice", "artefact_hash", "description"):
        assert getattr(again, field) == getattr(made, field), field
    (listed,) = [m for m in models.stub.ListModels(pb.ListModelsRequest()).models if m.name == made.name]
    assert not listed.report_json
    refusal = import_refusal(models, collection, archive, kind=pb.MODEL_KIND_ENCODER)
    assert refusal.field == "options.kind"


def trained_archive(folder: Path, tmp_path: Path) -> bytes:
    shutil.copytree(folder, tmp_path / "packed" / "model")
    passport = Passport(
        name="there@4", kind="reranker", description="made elsewhere", quarry_version="9.9", result=RESULT
    )
    (tmp_path / "packed" / VERSION_FILE).write_text(passport.model_dump_json())
    return tar_of(tmp_path / "packed")


def import_refusal(models: Models, collection: str, archive: bytes = b"", **options: Any) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        models.imported(collection, archive=archive, **options)
    return failure(caught.value)


def test_a_plain_model_in_an_archive_orders_alone(
    api: Api, models: Models, collection: str, first_folder: Path
) -> None:
    made = models.imported(collection, archive=tar_of(first_folder, "some-model"))
    assert (made.blend.rerank, made.blend.fused, made.verdict) == (1.0, 0.0, pb.MODEL_VERDICT_UNSPECIFIED)
    models.promote(made.name)
    for hit in api.search(collection, QUERY, explain=True).hits:
        assert hit.explanation.raw_score == hit.explanation.rerank_score


def test_what_is_no_model_is_refused_and_leaves_nothing(
    api: Api, models: Models, collection: str, encoder_folder: Path, first_folder: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(first_folder, tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:-100])
    before = models.names()
    for code, field, archive, options in (
        (grpc.StatusCode.INVALID_ARGUMENT, "archive", b"no archive" * 100, {}),
        (grpc.StatusCode.INVALID_ARGUMENT, "archive", escaping(), {}),
        (grpc.StatusCode.FAILED_PRECONDITION, "", tar_of(broken), {}),
        (grpc.StatusCode.FAILED_PRECONDITION, "", tar_of(encoder_folder), {}),
        (grpc.StatusCode.FAILED_PRECONDITION, "", b"", {"source": str(tmp_path / "none")}),
        (grpc.StatusCode.NOT_FOUND, "", b"", {"source": f"{collection}@99"}),
        (grpc.StatusCode.INVALID_ARGUMENT, "options.source", b"", {}),
        (grpc.StatusCode.INVALID_ARGUMENT, "options.source", tar_of(first_folder), {"source": "x"}),
        (grpc.StatusCode.INVALID_ARGUMENT, "options.kind", b"", {"kind": 99, "source": "x"}),
        (grpc.StatusCode.INVALID_ARGUMENT, "options.description", b"", {"description": "x" * 1_025}),
    ):
        failed = import_refusal(models, collection, archive, **options)
        assert (failed.code, failed.field) == (code, field), failed
        assert str(tmp_path) not in failed.message or "source" in options
    assert models.names() == before
    assert import_refusal(models, "nowhere", b"x").reason == "COLLECTION_NOT_FOUND"


def escaping() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../../config.json"))
    return buffer.getvalue()


def test_an_import_that_makes_no_sense_is_refused(models: Models, collection: str) -> None:
    options = next(import_stream(b"", collection=collection, source="x"))
    piece = pb.ImportModelRequest(archive=b"x")
    for stream in ([], [piece], [options, options], [options, pb.ImportModelRequest()]):
        failed = refused(models.stub.ImportModel, iter(stream))
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "part")
