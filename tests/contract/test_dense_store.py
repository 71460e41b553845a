"""What every dense store promises: the same tests for Qdrant Edge, for Qdrant's client, and in memory."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient
from tests.integration.network.networks import silent_proxy

from quarry.errors import RetrieverUnavailableError
from quarry.filters import AllOf, AnyOf, EqualTo, Exists, Filter, NoneOf, OneOf, Prefix, Range, matches
from quarry.retrieval.base import DenseStore, VectorChange
from quarry.retrieval.edge.client import EdgeDenseStore
from quarry.retrieval.edge.settings import StoreSettings
from quarry.retrieval.memory import MemoryDenseStore
from quarry.retrieval.qdrant.store import QdrantDenseStore
from quarry.schema import MAX_INTEGER, MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, Field, FieldType
from quarry.types import Docno, Fields, Position

pytestmark = pytest.mark.filterwarnings(  # what the client's stand-in for a server says of itself
    "ignore:Payload indexes have no effect in the local Qdrant",
    "ignore:Local mode performs exact",
)

SERVER_URL = os.environ.get("QUARRY_TEST_QDRANT_URL")
DIMENSION = 8
FIELDS = (
    Field("kw", FieldType.KEYWORD),
    Field("num", FieldType.INTEGER),
    Field("real", FieldType.FLOAT),
    Field("flag", FieldType.BOOLEAN),
    Field("time", FieldType.TIMESTAMP),
)
Vectors = NDArray[np.float32]
Opener = Callable[[], Awaitable[DenseStore]]


def edge_settings(folder: Path) -> StoreSettings:
    return StoreSettings(folder, "g1", DIMENSION, FIELDS)


async def open_qdrant(collection: str, location: str) -> DenseStore:
    if SERVER_URL:
        client = AsyncQdrantClient(url=SERVER_URL, prefer_grpc=True)
    else:
        client = AsyncQdrantClient(**{"location" if location == ":memory:" else "path": location})
    return await QdrantDenseStore.open(client, collection, "g1", DIMENSION, FIELDS)


def opener(kind: str, folder: Path, *, lasting: bool = False) -> Opener:
    """Opens a store, the same each time if it is ``lasting`` and not the one in memory."""
    collection = f"quarry-test-{uuid.uuid4()}"

    async def open_memory() -> DenseStore:
        return MemoryDenseStore("g1", DIMENSION)

    return {
        "memory": open_memory,
        "edge": lambda: EdgeDenseStore.open(edge_settings(folder / "edge")),
        "qdrant": lambda: open_qdrant(collection, str(folder / "qdrant") if lasting else ":memory:"),
    }[kind]


@pytest.fixture(params=["memory", "edge", "qdrant"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[DenseStore]:
    opened = await opener(kind, tmp_path)()
    yield opened
    await opened.close()


def units(*rows: list[float]) -> Vectors:
    """Rows padded with zeros and brought to unit length; shape ``(len(rows), DIMENSION)``."""
    padded = np.zeros((len(rows), DIMENSION), dtype=np.float32)
    for n, row in enumerate(rows):
        padded[n, : len(row)] = row
    return padded / np.linalg.norm(padded, axis=1, keepdims=True) if rows else padded


def random_units(random: np.random.Generator, count: int) -> Vectors:
    rows = random.normal(size=(count, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def upsert(docno: int, version: int, vectors: Vectors, fields: Fields | None = None) -> VectorChange:
    return VectorChange(Docno(docno), version, vectors, fields or {})


def delete(docno: int, version: int) -> VectorChange:
    return VectorChange(Docno(docno), version, None, {})


async def versions(store: DenseStore) -> dict[int, int]:
    return {int(docno): version async for docno, version in store.versions()}


async def docnos(store: DenseStore, filter: Filter | None = None, depth: int = 1_000) -> list[int]:
    return [int(c.docno) for c in await store.nearest(EAST, depth, filter)]


EAST = units([1.0])[0]


async def test_the_nearest_document_comes_first_with_its_cosine_and_best_passage(store: DenseStore) -> None:
    await store.apply([upsert(1, 1, units([0, 1], [3, 4])), upsert(2, 2, units([1, 1]))], 2)
    found = await store.nearest(EAST, 10, None)
    assert [(c.docno, c.passage) for c in found] == [(2, 0), (1, 1)]
    assert [c.score for c in found] == pytest.approx([2**-0.5, 0.6], abs=1e-6)


async def test_a_document_with_many_near_passages_fills_one_place(store: DenseStore) -> None:
    crowd = units(*([10.0, n / 100] for n in range(300)))
    await store.apply([upsert(7, 1, crowd), upsert(8, 2, units([1, 1])), upsert(9, 3, units([0, 1]))], 3)
    assert await docnos(store, depth=1) == [7]
    assert await docnos(store, depth=2) == [7, 8]
    assert await docnos(store, depth=3) == [7, 8, 9]
    assert await docnos(store, depth=4) == [7, 8, 9]


async def test_vectors_come_back_as_they_were_stored(store: DenseStore) -> None:
    crowd = units(*([10.0, n / 100] for n in range(300)))
    given = {1: units([0, 1], [3, 4]), 2: units(), 7: crowd}
    await store.apply([upsert(docno, docno, rows) for docno, rows in given.items()], 7)
    found = await store.vectors([Docno(docno) for docno in (7, 2, 1, 5)])
    assert found.keys() == given.keys()
    for docno, rows in given.items():
        assert found[Docno(docno)].shape == rows.shape
        assert np.allclose(found[Docno(docno)], rows, atol=1e-6)
    assert await store.vectors([]) == {}


async def test_equal_documents_are_ordered_and_cut_by_docno(store: DenseStore) -> None:
    same = [upsert(docno, docno, units([1, 2])) for docno in np.random.default_rng(0).permutation(60) + 1]
    await store.apply([*same, upsert(99, 99, units([1.0]))], 99)
    assert await docnos(store, depth=8) == [99, 1, 2, 3, 4, 5, 6, 7]


async def test_a_depth_of_zero_finds_nothing(store: DenseStore) -> None:
    await store.apply([upsert(1, 1, units([1.0]))], 1)
    assert await docnos(store, depth=0) == []


async def test_an_empty_store_finds_counts_and_lists_nothing(store: DenseStore) -> None:
    assert await docnos(store) == []
    assert await store.count() == 0
    assert await versions(store) == {}
    assert await store.similarities(EAST, [Docno(1)]) == {}


async def test_a_new_version_replaces_all_passages_of_the_old(store: DenseStore) -> None:
    await store.apply([upsert(1, 1, units([1.0], [0, 1], [0, 0, 1]), {"kw": "old"})], 1)
    await store.apply([upsert(1, 2, units([0, 1]), {"kw": "new"})], 2)
    [found] = await store.nearest(EAST, 10, None)
    assert (found.docno, found.passage, found.score) == (1, 0, pytest.approx(0.0, abs=1e-6))
    assert await docnos(store, EqualTo("kw", "old")) == []
    assert await docnos(store, EqualTo("kw", "new")) == [1]
    assert await versions(store) == {1: 2}


async def test_only_the_last_of_several_changes_of_a_document_counts(store: DenseStore) -> None:
    changes = [
        upsert(1, 1, units([1.0], [0, 1])),
        upsert(2, 2, units([1.0])),
        delete(1, 3),
        delete(2, 4),
        upsert(2, 5, units([0, 1])),
    ]
    await store.apply(changes, 5)
    assert await versions(store) == {2: 5}
    assert await docnos(store) == [2]


async def test_applying_again_changes_nothing(store: DenseStore) -> None:
    changes = [upsert(1, 1, units([1.0], [0, 1])), upsert(2, 2, units([1, 1])), delete(3, 3)]
    await store.apply(changes, 3)
    before = await store.nearest(EAST, 10, None)
    await store.apply(changes, 3)
    assert await store.nearest(EAST, 10, None) == before
    assert await store.count() == 2


async def test_a_deleted_document_is_gone_and_can_be_deleted_again(store: DenseStore) -> None:
    await store.apply([upsert(1, 1, units([1.0], [0, 1])), upsert(2, 2, units([0, 1]))], 2)
    await store.apply([delete(1, 3), delete(77, 4)], 4)
    await store.apply([delete(1, 3)], 4)
    assert await docnos(store) == [2]
    assert await versions(store) == {2: 2}
    assert await store.similarities(EAST, [Docno(1)]) == {}


async def test_a_document_without_passages_is_known_but_never_found(store: DenseStore) -> None:
    await store.apply([upsert(1, 1, units(), {"kw": "a"}), upsert(2, 2, units([1.0]), {"kw": "a"})], 2)
    assert await docnos(store) == [2]
    assert await docnos(store, EqualTo("kw", "a")) == [2]
    assert await versions(store) == {1: 1, 2: 2}
    assert await store.count() == 2
    assert list(await store.similarities(EAST, [Docno(1), Docno(2)])) == [2]


async def test_a_document_can_lose_its_passages_and_get_them_back(store: DenseStore) -> None:
    await store.apply([upsert(1, 1, units([1.0], [1, 1]))], 1)
    await store.apply([upsert(1, 2, units())], 2)
    assert await docnos(store) == []
    await store.apply([upsert(1, 3, units([1.0]))], 3)
    assert await docnos(store) == [1]
    assert await versions(store) == {1: 3}


async def test_the_greatest_docno_and_passage_number_are_kept(store: DenseStore) -> None:
    greatest = 2**48 - 1
    last = 2**16 - 1 if not isinstance(store, QdrantDenseStore) else 99  # the stand-in is slow
    rows = np.tile(units([0, 1]), (last + 1, 1))
    rows[-1] = EAST
    await store.apply([upsert(greatest, 2**52, rows)], 2**52)
    [found] = await store.nearest(EAST, 1, None)
    assert (found.docno, found.passage) == (greatest, last)
    assert await versions(store) == {greatest: 2**52}
    await store.apply([delete(greatest, 2**52 + 1)], 2**52 + 1)
    assert await docnos(store) == []


async def test_similarities_are_the_scores_of_nearest(store: DenseStore) -> None:
    random = np.random.default_rng(3)
    await store.apply([upsert(n, n, random_units(random, 1 + n % 4)) for n in range(1, 60)], 60)
    query = random_units(random, 1)[0]
    nearest = {c.docno: c for c in await store.nearest(query, 100, None)}
    similar = await store.similarities(query, [Docno(n) for n in (3, 9, 27, 1_000)])
    assert sorted(similar) == [3, 9, 27]
    for docno, candidate in similar.items():
        assert candidate.score == pytest.approx(nearest[docno].score, abs=1e-6)
        assert candidate.passage == nearest[docno].passage


@pytest.mark.parametrize(
    "vectors",
    [
        np.full((1, DIMENSION), np.nan, dtype=np.float32),
        np.full((1, DIMENSION), np.inf, dtype=np.float32),
        np.zeros((1, DIMENSION), dtype=np.float32),
        np.ones((1, DIMENSION - 1), dtype=np.float32),
        np.ones(DIMENSION, dtype=np.float32),
    ],
    ids=["nan", "infinity", "zero", "narrow", "flat"],
)
async def test_vectors_that_are_no_unit_vectors_are_refused_before_anything_is_written(
    store: DenseStore, vectors: Vectors
) -> None:
    with pytest.raises(ValueError, match="vectors"):
        await store.apply([upsert(1, 1, units([1.0])), upsert(2, 2, vectors)], 2)
    if vectors.ndim == 2:
        with pytest.raises(ValueError, match="vectors"):
            await store.nearest(vectors[0], 1, None)
    assert await store.count() == 0
    await store.apply([upsert(1, 1, units([1.0]))], 1)
    assert await store.count() == 1


async def test_a_docno_of_49_bits_is_refused(store: DenseStore) -> None:
    with pytest.raises(ValueError, match="docno"):
        await store.apply([upsert(2**48, 1, units([1.0]))], 1)


async def test_the_position_moves_with_flush_and_not_before(store: DenseStore) -> None:
    assert await store.position() == Position("g1", 0)
    await store.apply([upsert(1, 5, units([1.0]))], 5)
    assert await store.position() == Position("g1", 0)
    assert await store.flush() == Position("g1", 5)
    assert await store.position() == Position("g1", 5)
    await store.apply([], 9)
    assert await store.flush() == Position("g1", 9)


@pytest.mark.parametrize("kind", ["edge", "qdrant"])
async def test_a_closed_store_opens_with_all_it_had(kind: str, tmp_path: Path) -> None:
    reopen = opener(kind, tmp_path, lasting=True)
    store = await reopen()
    await store.apply([upsert(1, 5, units([1.0]), {"kw": "a"}), upsert(2, 6, units([0, 1]))], 6)
    await store.close()
    store = await reopen()
    assert await store.position() == Position("g1", 6)
    assert await versions(store) == {1: 5, 2: 6}
    assert await docnos(store, EqualTo("kw", "a")) == [1]
    await store.close()


async def test_many_calls_are_answered_each_with_its_own_answer(store: DenseStore) -> None:
    eye = np.eye(DIMENSION, dtype=np.float32)
    await store.apply([upsert(n + 1, n + 1, eye[n : n + 1]) for n in range(DIMENSION)], DIMENSION)
    answers = await asyncio.gather(*(store.nearest(eye[n % DIMENSION], 1, None) for n in range(100)))
    assert [answer[0].docno for answer in answers] == [n % DIMENSION + 1 for n in range(100)]


# filters

WORDS = [
    "",
    "a",
    "A",
    "ab",
    "a\0",
    "a\0b",
    "\0",
    "b",
    "é",
    "e\u0301",
    "ß",
    "z",
    "\uffff",
    "\U0001f600",
    "\U0001f600x",
]
WORDS += ["550e8400-e29b-41d4-a716-446655440000", "2024-01-31", "true", "1", " a ", 'q"\\', "x" * 1_024]
INTEGERS = [0, 1, -1, 2, 10, MAX_INTEGER, -MAX_INTEGER, MAX_INTEGER - 1, 2**31, 2**32 + 1]
REALS = [0.0, 1.0, -1.0, 0.1, 0.1 + 2**-56, 1e308, -1e308, 5e-324, 2.0**53, 1 / 3]
TIMES = [0, 1, -1, MIN_TIMESTAMP_US, MIN_TIMESTAMP_US + 1, MAX_TIMESTAMP_US, MAX_TIMESTAMP_US - 1]
TIMES += [1_700_000_000_123_456, 1_700_000_000_123_457, -(10**16) - 1, -(10**16), 10**17, 10**17 + 1]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "kw": st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    "num": st.sampled_from(INTEGERS) | st.integers(-MAX_INTEGER, MAX_INTEGER),
    "real": st.sampled_from(REALS) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    "flag": st.booleans(),
    "time": st.sampled_from(TIMES) | st.integers(MIN_TIMESTAMP_US, MAX_TIMESTAMP_US),
}
NAMES = st.sampled_from(sorted(VALUES))


@st.composite
def documents(draw: st.DrawFn) -> Fields:
    """Fields with no value, an empty list, one value or several."""
    names = draw(st.sets(NAMES))
    return {name: draw(VALUES[name] | st.lists(VALUES[name], max_size=4)) for name in sorted(names)}


@st.composite
def conditions(draw: st.DrawFn) -> Filter:
    name = draw(NAMES)
    value = VALUES[name]
    kinds: dict[str, Callable[[], Filter]] = {
        "equals": lambda: EqualTo(name, draw(value)),
        "in": lambda: OneOf(name, tuple(draw(st.lists(value, max_size=4)))),
        "exists": lambda: Exists(name),
        "prefix": lambda: Prefix("kw", draw(VALUES["kw"])),
        "range": lambda: draw_range(draw, name, value),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


def draw_range(draw: st.DrawFn, name: str, value: st.SearchStrategy[Any]) -> Filter:
    if name == "flag":  # it has no order
        return Exists(name)
    below, above = draw(
        st.sampled_from(
            [("gt", None), ("gte", None), (None, "lt"), (None, "lte"), ("gt", "lte"), ("gte", "lt")]
        )
    )
    return Range(name, **{side: draw(value) for side in (below, above) if side})


FILTERS = st.recursive(
    conditions(),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda f: AllOf(tuple(f)))
        | st.lists(inner, max_size=3).map(lambda f: AnyOf(tuple(f)))
        | st.lists(inner, max_size=3).map(lambda f: NoneOf(tuple(f)))
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop for the whole module: one store serves all examples."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=["memory", "edge", "qdrant"])
def shared_store(
    request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DenseStore]:
    store = runner.run(opener(request.param, tmp_path_factory.mktemp("filters"))())  # type: ignore[arg-type]
    yield store
    runner.run(store.close())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(held=st.lists(documents(), min_size=1, max_size=12), filters=st.lists(FILTERS, min_size=1, max_size=6))
def test_a_filter_lets_through_what_it_means(
    runner: asyncio.Runner, shared_store: DenseStore, held: list[Fields], filters: list[Filter]
) -> None:
    async def check() -> None:
        known = [delete(docno, 1) for docno in await versions(shared_store)]
        await shared_store.apply([*known, *(upsert(n, 1, units([1, n]), f) for n, f in enumerate(held))], 1)
        for filter in filters:
            meant = [n for n, fields in enumerate(held) if matches(filter, fields)]
            assert sorted(await docnos(shared_store, filter)) == meant, filter

    runner.run(check())


HELD: list[Fields] = [
    {},
    {"kw": [], "num": [], "real": [], "flag": [], "time": []},
    *({"kw": word} for word in WORDS),
    *({"num": number} for number in INTEGERS),
    *({"real": number} for number in REALS),
    *({"time": time} for time in TIMES),
    {"flag": True},
    {"flag": False},
    {"flag": [True, False]},
    {"kw": ["a", "z"], "num": [1, 10], "real": [0.1, 1.0], "time": [0, 10**17]},
]


def edge_cases() -> Iterator[Filter]:
    yield from (
        AllOf(()),
        AnyOf(()),
        NoneOf((AllOf(()),)),
        NoneOf((AnyOf(()),)),
        OneOf("kw", ()),
        NoneOf((OneOf("num", ()),)),
        Prefix("kw", ""),
    )
    for name, values in {
        "kw": WORDS,
        "num": INTEGERS,
        "real": REALS,
        "time": TIMES,
        "flag": [True, False],
    }.items():
        yield from (Exists(name), NoneOf((Exists(name),)))
        for value in values:
            yield from (
                EqualTo(name, value),
                NoneOf((EqualTo(name, value),)),
                OneOf(name, (value, values[0])),
            )
            if name != "flag":
                yield from (Range(name, **{side: value}) for side in ("gt", "gte", "lt", "lte"))
    for word in WORDS:
        yield from (Prefix("kw", word), Range("kw", gt="a", lt=word), Range("kw", gte=word, lte=word))
    yield from (Range("num", gt=1, lt=10), Range("real", gt=0.1, lt=1.0), Range("time", gt=0, lt=10**17))


async def test_every_edge_of_every_type_is_filtered_exactly(store: DenseStore) -> None:
    await store.apply([upsert(n, 1, units([1, n]), fields) for n, fields in enumerate(HELD)], 1)
    wrong = []
    for filter in edge_cases():
        meant = [n for n, fields in enumerate(HELD) if matches(filter, fields)]
        if sorted(await docnos(store, filter)) != meant:
            wrong.append(filter)
    assert not wrong


# the stores against the oracle


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 5), st.sampled_from(["a", "b"])), max_size=8),
        max_size=6,
    ),
)
def test_any_history_leaves_what_the_oracle_has(
    runner: asyncio.Runner, shared_store: DenseStore, seed: int, steps: list[list[tuple[int, int, str]]]
) -> None:
    async def check() -> None:
        random, oracle = np.random.default_rng(seed), MemoryDenseStore("g1", DIMENSION)
        await shared_store.apply([delete(docno, 1) for docno in await versions(shared_store)], 1)
        for version, step in enumerate(steps, 2):
            changes = [
                delete(docno, version) if rows < 0
                else upsert(docno, version, random_units(random, rows), {"kw": word})
                for docno, rows, word in step
            ]  # fmt: skip
            await oracle.apply(changes, version)
            await shared_store.apply(changes, version)
        assert await versions(shared_store) == await versions(oracle)
        query = random_units(random, 1)[0]
        for filter in (None, EqualTo("kw", "a")):
            for depth in (1, 3, 20):
                found = await shared_store.nearest(query, depth, filter)
                meant = await oracle.nearest(query, depth, filter)
                assert [(c.docno, c.passage) for c in found] == [(c.docno, c.passage) for c in meant]
                assert [c.score for c in found] == pytest.approx([c.score for c in meant], abs=1e-5)

    runner.run(check())


# Qdrant's server


@pytest.mark.qdrant_server
@pytest.mark.skipif(
    not SERVER_URL, reason="QUARRY_TEST_QDRANT_URL is unset: the client's local mode stood in"
)
async def test_the_qdrant_server_arm_passed_these_tests_against_a_server() -> None:
    client = AsyncQdrantClient(url=SERVER_URL, prefer_grpc=True)
    assert (await client.info()).version
    await client.close()


async def test_a_qdrant_server_that_is_down_makes_the_arm_unavailable() -> None:
    client = AsyncQdrantClient(url="http://127.0.0.1:9", prefer_grpc=False, check_compatibility=False)
    with pytest.raises(RetrieverUnavailableError, match="dense"):
        await QdrantDenseStore.open(client, "documents", "g1", DIMENSION, FIELDS)


@pytest.mark.parametrize("prefer_grpc", [True, False])
async def test_a_qdrant_server_that_says_nothing_makes_the_arm_unavailable_in_time(prefer_grpc: bool) -> None:
    with silent_proxy() as silent:
        client = AsyncQdrantClient(
            url=silent.url,
            grpc_port=int(silent.url.rpartition(":")[2]),
            prefer_grpc=prefer_grpc,
            timeout=60,
            check_compatibility=False,
        )
        async with asyncio.timeout(10):
            with pytest.raises(RetrieverUnavailableError, match="within"):
                await QdrantDenseStore.open(client, "documents", "g1", DIMENSION, FIELDS, timeout_s=0.5)
        assert silent.connections


async def test_a_qdrant_server_that_falls_silent_holds_up_no_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("quarry.retrieval.qdrant.store.CLOSE_TIMEOUT_S", 0.2)
    store = await open_qdrant("documents", ":memory:")

    async def silence(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store._client, "upsert", silence)  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        await store.close()
    assert "is not written: no answer" in caplog.text
