"""Reindexing while people search and write: nothing fails, nothing is lost, no answer mixes generations."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2
from tests.integration.api.collections.test_reindex import (
    consistent,
    described,
    finished,
    reindexed,
    rolled_back,
    started,
)
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS, seeded_documents
from tests.integration.api.helpers.served import CALL_S, Api, document, failure

from quarry.models.encoder import load_encoder
from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import search_service_pb2 as search_pb

STATIC = 200
SEARCHABLE, LOGGED = documents_pb.WRITE_VISIBILITY_SEARCHABLE, documents_pb.WRITE_VISIBILITY_LOGGED


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_encoder(tmp_path_factory.mktemp("other-load"), seed=8))


class Load:
    """Callers that search and write until they are stopped.

    Attributes:
        answers: every search, with the query that was asked.
        acknowledged: ids of documents that were stored and not deleted, by what they say.
        failures: what went wrong.
    """

    def __init__(self, api: Api, name: str) -> None:
        self._api, self._name = api, name
        self._stop = threading.Event()
        self.answers: list[tuple[str, search_pb.SearchResponse]] = []
        self.acknowledged: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.failures: list[str] = []
        self.calls = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        workers = [self._search, self._search, *(self._writer(n) for n in range(3))]
        with ThreadPoolExecutor(len(workers)) as threads:
            running = [threads.submit(self._until_stopped, n, work) for n, work in enumerate(workers)]
            try:
                yield
            finally:
                self._stop.set()
        for worker in running:
            worker.result()

    def _until_stopped(self, seed: int, work: Callable[[Random, int], None]) -> None:
        random = Random(seed)
        for step in itertools.count():
            if self._stop.is_set():
                return
            try:
                work(random, step)
                self.calls += 1
            except grpc.RpcError as error:
                self.failures.append(str(failure(error)))

    def _search(self, random: Random, step: int) -> None:
        query = " ".join(random.choices(WORDS, k=2))
        answer = self._api.search(
            self._name, query, explain=True, page_size=20, require_complete=step % 2 == 0
        )
        self.answers.append((query, answer))

    def _writer(self, writer: int) -> Callable[[Random, int], None]:
        def write(random: Random, step: int) -> None:
            id, token = f"w{writer}-{step}", f"zz{writer}x{step}q"
            wait = SEARCHABLE if step % 2 else LOGGED
            text = f"{token} {' '.join(random.choices(WORDS, k=5))}"
            request = documents_pb.BatchUpsertDocumentsRequest(
                collection=self._name, documents=[document(id, text=text)], wait=wait
            )
            answer = self._api.documents.BatchUpsertDocuments(request, timeout=CALL_S)
            if answer.statuses[0].status.code or answer.result.reached != wait:
                self.failures.append(f"{id}: {answer}")
            self.acknowledged[id] = token
            if wait == SEARCHABLE:
                hits = self._api.search(self._name, token, page_size=3).hits
                if not hits or hits[0].document.id != id:
                    self.failures.append(f"{id} was said to be searchable, and is not found")
            if step % 7 == 0:
                self._api.delete(self._name, id)
                del self.acknowledged[id]
                self.deleted.add(id)

        return write


def test_nothing_is_lost_or_mixed_while_a_collection_is_reindexed(
    api: Api,
    new_name: Callable[[], str],
    encoder_folder: Path,
    other_encoder: str,
    tmp_path: Path,
) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(seed=5, size=STATIC))
    encoders = {described(api, name).status.generation: str(encoder_folder)}
    load = Load(api, name)
    with load.going_on():
        for change in (other_encoder, str(encoder_folder), ""):
            after = reindexed(api, name, encoder=change) if change else rolled_back(api, name)
            assert encoders.get(after.status.generation, after.encoder) == after.encoder
            encoders[after.status.generation] = after.encoder
    assert not load.failures, load.failures[:5]
    assert len(load.acknowledged) > 30
    assert len({answer.generation for _, answer in load.answers}) == 3
    _assert_scores_are_of_their_generation(load, encoders, tmp_path)
    _assert_all_is_there(api, name, load)


def _assert_scores_are_of_their_generation(load: Load, encoders: dict[str, str], data: Path) -> None:
    models = {path: load_encoder(path, data, "cpu") for path in set(encoders.values())}
    compared = dict.fromkeys(encoders, 0)
    for query, answer in load.answers[:: max(1, len(load.answers) // 300)]:
        model = models[encoders[answer.generation]]
        hits = [hit for hit in answer.hits if hit.document.id.startswith("d") and hit.explanation.passage]
        if not hits:
            continue
        vectors = model.encode([query, *(hit.explanation.passage for hit in hits)])
        expected = vectors[1:] @ vectors[0]
        scores = [a.score for hit in hits for a in hit.explanation.arms if a.arm == "dense"]
        assert np.allclose(scores, expected, atol=2e-3), "scores of another encoder than the answer's"
        compared[answer.generation] += len(hits)
    assert min(compared.values()) > 10, compared


def _assert_all_is_there(api: Api, name: str, load: Load) -> None:
    assert consistent(api, name)
    for arms in (["bm25"], ["dense"]):
        for id, token in list(load.acknowledged.items())[::5]:
            request = search_pb.RetrieveRequest(
                collection=name,
                queries=[search_pb.RetrieveQuery(text=token)],
                arms=[search_pb.Arm(name=arm, depth=1_000) for arm in arms],
            )
            answer = api.searches.Retrieve(request, timeout=CALL_S)
            assert id in {c.document_id for c in answer.results[0].arms[0].candidates}, (arms, id)
    total = api.search(name, "", page_size=1).total.count
    assert total == STATIC + len(load.acknowledged)


def test_a_page_of_the_old_generation_is_refused(
    api: Api, new_name: Callable[[], str], other_encoder: str
) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(seed=5, size=30))
    page = api.search(name, "barata", page_size=5)
    reindexed(api, name, encoder=other_encoder)
    with pytest.raises(grpc.RpcError) as caught:
        api.search(name, "barata", page_size=5, page_token=page.next_page_token)
    assert failure(caught.value).reason == "PAGE_EXPIRED"


@pytest.fixture
def large(api: Api, new_name: Callable[[], str]) -> str:
    """A collection that takes a while to encode."""
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(seed=6, size=2_500))
    return name


def pause(api: Api, name: str) -> pb.ReindexStatus:
    answer = api.collections.PauseReindex(pb.PauseReindexRequest(name=name), timeout=CALL_S)
    return answer.collection.status.reindex


def operation_named(api: Api, name: str) -> operations_pb2.Operation:
    return api.operations.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=CALL_S)


def test_a_reindex_is_paused_and_resumed(api: Api, large: str, tmp_path: Path) -> None:
    encoder = str(make_tiny_encoder(tmp_path / "encoder", seed=11))
    operation = started(api, large, encoder=encoder)
    paused = pause(api, large)
    assert paused.progress.state == pb.REINDEX_STATE_PAUSED
    assert paused.operation == operation.name
    assert paused.encoder == encoder
    second = pb.ReindexRequest(name=large, encoder="none")
    with pytest.raises(grpc.RpcError) as caught:
        api.collections.Reindex(second, timeout=CALL_S)
    assert failure(caught.value).reason == "REINDEX_RUNNING"
    api.upsert(large, {"meanwhile": {"text": "barata"}})
    assert not operation_named(api, operation.name).done
    api.collections.ResumeReindex(pb.ResumeReindexRequest(name=large), timeout=CALL_S)
    done = finished(api, operation)
    assert not done.HasField("error"), done.error
    metadata = pb.ReindexMetadata()
    assert done.metadata.Unpack(metadata)
    assert metadata.progress.state == pb.REINDEX_STATE_DONE
    assert metadata.progress.documents_done == 2_501
    assert described(api, large).encoder == encoder
    assert consistent(api, large)


def test_a_cancelled_reindex_leaves_nothing(
    api: Api, large: str, tmp_path: Path, server_folder: Path
) -> None:
    before = described(api, large)
    operation = started(api, large, encoder=str(make_tiny_encoder(tmp_path / "encoder", seed=12)))
    building = described(api, large).status.reindex.generation
    (folder,) = (server_folder / "collections").glob(f"*/{before.status.generation}")
    assert building
    api.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name), timeout=CALL_S)
    done = finished(api, operation)
    assert done.error.code == grpc.StatusCode.CANCELLED.value[0]
    after = described(api, large)
    assert not after.status.HasField("reindex")
    assert (after.encoder, after.etag) == (before.encoder, before.etag)
    assert [entry.name for entry in folder.parent.iterdir()] == [before.status.generation]
    assert consistent(api, large)


def test_a_collection_can_be_deleted_while_it_is_reindexed(
    api: Api, large: str, tmp_path: Path, server_folder: Path
) -> None:
    operation = started(api, large, encoder=str(make_tiny_encoder(tmp_path / "encoder", seed=13)))
    generation = described(api, large).status.generation
    (folder,) = (server_folder / "collections").glob(f"*/{generation}")
    api.collections.DeleteCollection(pb.DeleteCollectionRequest(name=large), timeout=CALL_S)
    assert finished(api, operation).error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert not folder.parent.exists()
