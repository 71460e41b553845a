"""An arm that is one module and one registration is an arm everywhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from tests.unit.miner.small import make_corpus
from tests.unit.retrieval.length_arm import LENGTH, OPENING
from tests.unit.search.searched import RecordingLog

from quarry.client import Client
from quarry.collections import generation
from quarry.collections.collections import Collections
from quarry.collections.data_folder import DataFolder
from quarry.config import Settings
from quarry.deadline import Deadline
from quarry.documents.catalog import CollectionSettings, PassagePolicy
from quarry.documents.log import Upsert
from quarry.documents.store import Database, RequestId
from quarry.errors import RetrieverUnavailableError
from quarry.mining.members import check_members
from quarry.ranking.fusion import ArmRun
from quarry.ranking.weighting import QueryWeights, Trait, weigh_by_query
from quarry.retrieval.lexical.memory_lexical import MemoryExcerptIndex, MemoryLexicalIndex
from quarry.retrieval.registry import ARMS, compute_default_share, list_arms, register_arm
from quarry.schema import Field, FieldType, Schema
from quarry.search.result_pages import KeptSearch, PageStore
from quarry.search.service import SearchService
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import search_service_pb2_grpc
from quarry_miner.examples import MiningQuery, Positive
from quarry_miner.job.task_builder import LiveArms, Sources, assemble
from quarry_miner.presets.registry import make_preset
from quarry_server.collections.messages import to_arm_messages
from quarry_server.info import make_server_info
from quarry_server.search.service import SearchServicer
from quarry_server.transport.connections import ConnectionLimits
from quarry_trainer.tuning.fitting import MergeChoice
from quarry_trainer.tuning.tuning_job import make_configuration

TEXTS = ["red shoe", "red shoe with laces", "blue"]
WAIT_S = 20.0


class MemoryEngines:
    """Opens lexical indexes in memory, and no dense stores."""

    def open_excerpts(self, folder: Path, generation: str, schema: Schema) -> MemoryExcerptIndex:
        return MemoryExcerptIndex(generation, schema)

    def open_lexical(self, folder: Path, generation: str, schema: Schema) -> MemoryLexicalIndex:
        return MemoryLexicalIndex(generation, schema)

    async def open_dense(self, *_: Any) -> Any:
        raise AssertionError("the collection has no encoder")


class NoModels:
    async def load_dense_parts(self, settings: CollectionSettings) -> None:
        return None

    def hold_rerankers(self, names: Any) -> Any:
        return contextlib.nullcontext()

    def make_reranking(self, *_: Any) -> Any:
        return None


@dataclass
class Faq:
    """A collection of three documents, behind a server of this process."""

    open_collections: Collections
    client: Client

    async def search(self, timeout_s: float = WAIT_S, **request: Any) -> pb.SearchResponse:
        asked = pb.SearchRequest(**{"collection": "faq", "query": "red shoe", "explain": True, **request})
        return await asyncio.to_thread(self.client.search.Search, asked, timeout=timeout_s)

    async def retrieve(self, **request: Any) -> pb.RetrieveResponse:
        asked = pb.RetrieveRequest(collection="faq", queries=[pb.RetrieveQuery(text="red shoe")], **request)
        return await asyncio.to_thread(self.client.search.Retrieve, asked, timeout=WAIT_S)


@pytest.fixture
def third_arm() -> Iterator[None]:
    register_arm(LENGTH)
    OPENING.failures = []
    yield
    del ARMS[LENGTH.name]


@pytest.fixture
async def faq(third_arm: None, tmp_path: Path) -> AsyncIterator[Faq]:
    async with served(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def served(path: Path) -> AsyncIterator[Faq]:
    folder = DataFolder(path / "data")
    open_collections = Collections(folder, Database(folder.open_documents()), MemoryEngines(), NoModels(), 2)
    await open_collections.open()
    schema = Schema((Field("text", FieldType.TEXT),))
    await open_collections.create(CollectionSettings("faq", schema, "none"), RequestId("", "create", b""))
    documents = [Upsert(f"d{n:03}", {"text": text}) for n, text in enumerate(TEXTS)]
    with open_collections.use("faq") as collection:
        await collection.upsert(documents, RequestId("", "upsert", b""), True, Deadline.set_after(WAIT_S))
    pages: PageStore[KeptSearch] = PageStore(60.0, 1_000_000)

    @contextlib.asynccontextmanager
    async def no_rerankers(*_: Any) -> AsyncIterator["asyncio.Future[None]"]:
        yield asyncio.get_running_loop().create_future()

    server = grpc.aio.server()
    servicer = SearchServicer(open_collections, SearchService(pages, RecordingLog()), no_rerankers, WAIT_S)
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = Client(f"127.0.0.1:{port}")
    try:
        yield Faq(open_collections, client)
    finally:
        await asyncio.to_thread(client.close)
        await server.stop(None)
        await open_collections.close()
        folder.close()


async def test_it_merges_and_explains_as_the_others_do(faq: Faq) -> None:
    answer = await faq.search()
    assert [weight.arm for weight in answer.weights] == ["bm25", "length"]
    assert [weight.weight for weight in answer.weights] == [0.25, 0.5]
    assert answer.hits[0].document.id == "d000"
    bm25, length = answer.hits[0].explanation.arms
    assert (length.arm, length.rank, length.score) == ("length", 1, 1.0)
    assert length.contribution == pytest.approx(0.5 / 0.75)
    assert bm25.contribution + length.contribution == pytest.approx(answer.hits[0].score)
    assert {"bm25", "length"} <= answer.timings.keys()
    assert not answer.degraded
    alone = await faq.search(arms=[{"name": "length", "weight": 2, "depth": 2}])
    assert [hit.document.id for hit in alone.hits] == ["d000", "d002"]


async def test_it_is_named_when_it_fails_and_when_it_is_late(faq: Faq) -> None:
    OPENING.arm.failure = RetrieverUnavailableError("length", "it lost its ruler")
    answer = await faq.search()
    (lacking,) = answer.degraded
    assert (lacking.stage, lacking.arm) == (pb.STAGE_ARM, "length")
    assert lacking.reason == pb.DEGRADATION_REASON_UNAVAILABLE
    assert "ruler" in lacking.detail
    assert answer.hits
    OPENING.arm.failure, OPENING.arm.stuck = None, True
    (late,) = (await faq.search(timeout_s=0.7)).degraded
    assert (late.stage, late.arm, late.reason) == (pb.STAGE_ARM, "length", pb.DEGRADATION_REASON_TIMEOUT)


async def test_retrieve_gives_its_candidates_its_bounds_and_its_trait(faq: Faq) -> None:
    (result,) = (await faq.retrieve()).results
    assert {arm.arm: len(arm.candidates) for arm in result.arms} == {"bm25": 2, "length": 3}
    (result,) = (await faq.retrieve(complete=True)).results
    length = result.arms[1]
    assert (length.arm, length.low, length.high) == ("length", 0.0, 1.0)
    assert (result.traits["length_best"], result.traits["dense_best"]) == (1.0, 0.0)


async def test_it_proposes_candidates_to_a_mining_job(faq: Faq) -> None:
    check_members(["length"])
    corpus = make_corpus(TEXTS)
    nothing: Any = None
    sources = Sources(corpus, nothing, None, PassagePolicy(), nothing, arms=LiveArms(faq.client, "faq"))
    queries = [MiningQuery("q", "red shoe", (Positive(0),))]

    def listed() -> tuple[tuple[str, ...], list[list[int]]]:
        task = assemble(make_preset("topk"), queries, sources, members=["length"])
        assert "length: the live arm" in task.notes
        (member,) = task.members
        return tuple(m.name for m in task.members), member.search(["red shoe"], 3).documents.tolist()

    assert await asyncio.to_thread(listed) == (("length",), [[0, 2, 1]])


async def test_its_state_and_its_definition_are_told(faq: Faq) -> None:
    with faq.open_collections.use("faq") as collection:
        states = to_arm_messages(collection.generation)
        assert [state.arm for state in states] == ["bm25", "length"]
        assert len({state.applied_sequence for state in states}) == 1
        compared = await collection.check(Deadline.set_after(WAIT_S))
    assert [(arm.arm, arm.documents, arm.consistent) for arm in compared.arms] == [
        ("bm25", 3, True),
        ("length", 3, True),
    ]
    info = make_server_info(Settings(), "cpu", ConnectionLimits(1, 1, 1, 1, 1, 1))
    assert [arm.name for arm in info.arms] == ["bm25", "dense", "length"]
    assert (info.arms[2].weight, info.arms[2].highest) == (0.5, 1.0)
    assert not info.arms[0].HasField("highest")


async def test_one_that_cannot_be_opened_is_named_and_tried_again(
    third_arm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, sleep = asyncio.Event(), asyncio.sleep

    async def wait(seconds: float) -> None:
        await (again.wait() if seconds == 123.0 else sleep(seconds))

    monkeypatch.setattr(generation, "FIRST_RETRY_S", 123.0)
    monkeypatch.setattr(generation.asyncio, "sleep", wait)
    OPENING.failures = [RetrieverUnavailableError("length", "no ruler yet")]
    async with served(tmp_path) as faq:
        (lacking,) = (await faq.search()).degraded
        assert (lacking.arm, lacking.reason) == ("length", pb.DEGRADATION_REASON_UNAVAILABLE)
        again.set()
        with faq.open_collections.use("faq") as collection:
            (reopening,) = collection.generation._reopening
            await asyncio.wait_for(reopening, WAIT_S)
            assert await collection.generation.wait_visible(len(TEXTS), WAIT_S)
        assert not (await faq.search()).degraded


async def test_one_that_opens_again_before_the_others_have_opened_is_used(
    third_arm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {name: arm for name, arm in ARMS.items() if name != LENGTH.name}
    for name in others:
        del ARMS[name]
    ARMS.update(others)  # they open after it
    monkeypatch.setattr(generation, "FIRST_RETRY_S", 0.0)
    OPENING.failures = [RetrieverUnavailableError("length", "no ruler yet")]
    async with served(tmp_path) as faq:
        with faq.open_collections.use("faq") as collection:
            assert await collection.generation.wait_visible(len(TEXTS), WAIT_S)
        assert not (await faq.search()).degraded


def test_its_weight_follows_those_of_the_query(third_arm: None) -> None:
    runs = [
        ArmRun(arm, [], weight, 0.0, 1.0)
        for arm, weight in (("bm25", 0.25), ("dense", 0.75), ("length", 0.5))
    ]
    by = QueryWeights({"agreement": Trait(1.0, 0.0, 1.0)})
    values = {"agreement": 0.0}
    weights = weigh_by_query(runs, values, by)
    assert weights == pytest.approx([0.5 / 3, 0.5, 1 / 3])
    assert compute_default_share("dense") == pytest.approx(0.5)
    fitted = make_configuration(MergeChoice(share=0.4), list_arms())
    assert fitted.weights == pytest.approx({"bm25": 0.2, "dense": 0.4, "length": 0.4}, abs=1e-5)


def test_a_name_is_given_once(third_arm: None) -> None:
    for name in ("length", "bm25", "fused", "total"):
        with pytest.raises(ValueError, match="taken"):
            register_arm(replace(LENGTH, name=name))
    with pytest.raises(ValueError, match="browses"):
        register_arm(replace(LENGTH, name="other", browses=True))
    for changed in ({"name": "No"}, {"weight": 0.0}, {"high": 0.0}):
        with pytest.raises(ValueError, match="arm"):
            replace(LENGTH, **cast(Any, changed))
    assert list_arms() == ("bm25", "dense", "length")
