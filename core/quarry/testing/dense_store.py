"""The contract of ``quarry.retrieval.base.DenseStore``."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quarry.filters import EqualTo, Filter, matches
from quarry.retrieval.base import MAX_PASSAGES, DenseStore, VectorChange
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.testing.dense_filters import FIELDS as FIELDS
from quarry.testing.dense_filters import FILTERS, HELD, draw_documents, list_edge_cases
from quarry.types import Docno, Fields, Position

GENERATION = "g1"
DIMENSION = 8
Vectors = NDArray[np.float32]
CHANGES = st.tuples(st.integers(0, 9), st.integers(-1, 5), st.sampled_from(["a", "b"]))
"""A document, how many passages it gets (-1: it is deleted), and its keyword."""


def make_units(*rows: list[float]) -> Vectors:
    """Pads rows with zeros and brings them to unit length; shape ``(len(rows), DIMENSION)``."""
    padded = np.zeros((len(rows), DIMENSION), dtype=np.float32)
    for n, row in enumerate(rows):
        padded[n, : len(row)] = row
    if rows:
        padded /= np.linalg.norm(padded, axis=1, keepdims=True)
    return padded


def draw_units(random: np.random.Generator, count: int) -> Vectors:
    rows: Vectors = random.normal(size=(count, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def upsert(docno: int, version: int, vectors: Vectors, fields: Fields | None = None) -> VectorChange:
    return VectorChange(Docno(docno), version, vectors, fields or {})


def delete(docno: int, version: int) -> VectorChange:
    return VectorChange(Docno(docno), version, None, {})


async def collect_versions(store: DenseStore) -> dict[int, int]:
    return {int(docno): version async for docno, version in store.read_versions()}


async def list_docnos(store: DenseStore, filter: Filter | None = None, depth: int = 1_000) -> list[int]:
    return [int(c.docno) for c in await store.find_nearest(EAST, depth, filter)]


EAST = make_units([1.0])[0]


@pytest.mark.asyncio
class DenseStoreContract:
    """The promises of every dense store. Subclass it as ``Test...``, and write ``open_store``.

    Attributes:
        lasting: whether a closed store opens again with all that it had.
        most_passages: how many passages a document may have; fewer than ``MAX_PASSAGES`` is for
            stand-ins that are slow.
    """

    lasting = True
    most_passages = MAX_PASSAGES

    async def open_store(self, folder: Path) -> DenseStore:
        """Opens the store of ``folder``, empty at first, for vectors of ``DIMENSION``, with ``FIELDS`` to
        filter by and the generation ``GENERATION``."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[DenseStore]:
        opened = await self.open_store(tmp_path)
        yield opened
        await opened.close()

    async def test_the_nearest_document_comes_first_with_its_cosine_and_best_passage(
        self, store: DenseStore
    ) -> None:
        await store.apply([upsert(1, 1, make_units([0, 1], [3, 4])), upsert(2, 2, make_units([1, 1]))], 2)
        found = await store.find_nearest(EAST, 10, None)
        assert [(c.docno, c.passage) for c in found] == [(2, 0), (1, 1)]
        assert [c.score for c in found] == pytest.approx([2**-0.5, 0.6], abs=1e-6)

    async def test_a_document_with_many_near_passages_fills_one_place(self, store: DenseStore) -> None:
        crowd = make_units(*([10.0, n / 100] for n in range(300)))
        await store.apply(
            [upsert(7, 1, crowd), upsert(8, 2, make_units([1, 1])), upsert(9, 3, make_units([0, 1]))], 3
        )
        assert await list_docnos(store, depth=1) == [7]
        assert await list_docnos(store, depth=2) == [7, 8]
        assert await list_docnos(store, depth=3) == [7, 8, 9]
        assert await list_docnos(store, depth=4) == [7, 8, 9]

    async def test_erasing_leaves_what_was_not_deleted(self, store: DenseStore) -> None:
        rows = {docno: draw_units(np.random.default_rng(docno), 3) for docno in range(1, 9)}
        await store.apply([upsert(docno, docno, vectors) for docno, vectors in rows.items()], 8)
        await store.apply([delete(3, 9), delete(5, 10)], 10)
        await store.flush()
        await store.erase()
        assert (await collect_versions(store)).keys() == rows.keys() - {3, 5}
        read = await store.read_vectors([Docno(docno) for docno in rows])
        assert read.keys() == rows.keys() - {3, 5}
        for docno, vectors in read.items():
            np.testing.assert_allclose(vectors, rows[docno], atol=1e-6)
        await store.apply([upsert(3, 11, rows[3])], 11)
        assert (await store.find_nearest(rows[3][0], 1, None))[0].docno == 3

    async def test_vectors_come_back_as_they_were_stored(self, store: DenseStore) -> None:
        crowd = make_units(*([10.0, n / 100] for n in range(300)))
        given = {1: make_units([0, 1], [3, 4]), 2: make_units(), 7: crowd}
        await store.apply([upsert(docno, docno, rows) for docno, rows in given.items()], 7)
        found = await store.read_vectors([Docno(docno) for docno in (7, 2, 1, 5)])
        assert found.keys() == given.keys()
        for docno, rows in given.items():
            assert found[Docno(docno)].shape == rows.shape
            assert np.allclose(found[Docno(docno)], rows, atol=1e-6)
        assert await store.read_vectors([]) == {}

    async def test_equal_documents_are_ordered_and_cut_by_docno(self, store: DenseStore) -> None:
        same = [
            upsert(docno, docno, make_units([1, 2])) for docno in np.random.default_rng(0).permutation(60) + 1
        ]
        await store.apply([*same, upsert(99, 99, make_units([1.0]))], 99)
        assert await list_docnos(store, depth=8) == [99, 1, 2, 3, 4, 5, 6, 7]

    async def test_a_depth_of_zero_finds_nothing(self, store: DenseStore) -> None:
        await store.apply([upsert(1, 1, make_units([1.0]))], 1)
        assert await list_docnos(store, depth=0) == []

    async def test_an_empty_store_finds_counts_and_lists_nothing(self, store: DenseStore) -> None:
        assert await list_docnos(store) == []
        assert await store.count() == 0
        assert await collect_versions(store) == {}
        assert await store.compute_similarities(EAST, [Docno(1)]) == {}

    async def test_a_new_version_replaces_all_passages_of_the_old(self, store: DenseStore) -> None:
        await store.apply([upsert(1, 1, make_units([1.0], [0, 1], [0, 0, 1]), {"kw": "old"})], 1)
        await store.apply([upsert(1, 2, make_units([0, 1]), {"kw": "new"})], 2)
        [found] = await store.find_nearest(EAST, 10, None)
        assert (found.docno, found.passage) == (1, 0)
        assert found.score == pytest.approx(0.0, abs=1e-6)
        assert await list_docnos(store, EqualTo("kw", "old")) == []
        assert await list_docnos(store, EqualTo("kw", "new")) == [1]
        assert await collect_versions(store) == {1: 2}

    async def test_only_the_last_of_several_changes_of_a_document_counts(self, store: DenseStore) -> None:
        changes = [
            upsert(1, 1, make_units([1.0], [0, 1])),
            upsert(2, 2, make_units([1.0])),
            delete(1, 3),
            delete(2, 4),
            upsert(2, 5, make_units([0, 1])),
        ]
        await store.apply(changes, 5)
        assert await collect_versions(store) == {2: 5}
        assert await list_docnos(store) == [2]

    async def test_applying_again_changes_nothing(self, store: DenseStore) -> None:
        changes = [upsert(1, 1, make_units([1.0], [0, 1])), upsert(2, 2, make_units([1, 1])), delete(3, 3)]
        await store.apply(changes, 3)
        before = await store.find_nearest(EAST, 10, None)
        await store.apply(changes, 3)
        assert await store.find_nearest(EAST, 10, None) == before
        assert await store.count() == 2

    async def test_a_deleted_document_is_gone_and_can_be_deleted_again(self, store: DenseStore) -> None:
        await store.apply([upsert(1, 1, make_units([1.0], [0, 1])), upsert(2, 2, make_units([0, 1]))], 2)
        await store.apply([delete(1, 3), delete(77, 4)], 4)
        await store.apply([delete(1, 3)], 4)
        assert await list_docnos(store) == [2]
        assert await collect_versions(store) == {2: 2}
        assert await store.compute_similarities(EAST, [Docno(1)]) == {}

    async def test_a_document_without_passages_is_known_but_never_found(self, store: DenseStore) -> None:
        await store.apply(
            [upsert(1, 1, make_units(), {"kw": "a"}), upsert(2, 2, make_units([1.0]), {"kw": "a"})], 2
        )
        assert await list_docnos(store) == [2]
        assert await list_docnos(store, EqualTo("kw", "a")) == [2]
        assert await collect_versions(store) == {1: 1, 2: 2}
        assert await store.count() == 2
        assert list(await store.compute_similarities(EAST, [Docno(1), Docno(2)])) == [2]

    async def test_a_document_can_lose_its_passages_and_get_them_back(self, store: DenseStore) -> None:
        await store.apply([upsert(1, 1, make_units([1.0], [1, 1]))], 1)
        await store.apply([upsert(1, 2, make_units())], 2)
        assert await list_docnos(store) == []
        await store.apply([upsert(1, 3, make_units([1.0]))], 3)
        assert await list_docnos(store) == [1]
        assert await collect_versions(store) == {1: 3}

    async def test_the_greatest_docno_and_passage_number_are_kept(self, store: DenseStore) -> None:
        greatest, last = 2**48 - 1, self.most_passages - 1
        rows = np.tile(make_units([0, 1]), (last + 1, 1))
        rows[-1] = EAST
        await store.apply([upsert(greatest, 2**52, rows)], 2**52)
        [found] = await store.find_nearest(EAST, 1, None)
        assert (found.docno, found.passage) == (greatest, last)
        assert await collect_versions(store) == {greatest: 2**52}
        await store.apply([delete(greatest, 2**52 + 1)], 2**52 + 1)
        assert await list_docnos(store) == []

    async def test_similarities_are_the_scores_of_nearest(self, store: DenseStore) -> None:
        random = np.random.default_rng(3)
        await store.apply([upsert(n, n, draw_units(random, 1 + n % 4)) for n in range(1, 60)], 60)
        query = draw_units(random, 1)[0]
        nearest = {c.docno: c for c in await store.find_nearest(query, 100, None)}
        similar = await store.compute_similarities(query, [Docno(n) for n in (3, 9, 27, 1_000)])
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
        self, store: DenseStore, vectors: Vectors
    ) -> None:
        with pytest.raises(ValueError, match="vectors"):
            await store.apply([upsert(1, 1, make_units([1.0])), upsert(2, 2, vectors)], 2)
        if vectors.ndim == 2:
            with pytest.raises(ValueError, match="vectors"):
                await store.find_nearest(vectors[0], 1, None)
        assert await store.count() == 0
        await store.apply([upsert(1, 1, make_units([1.0]))], 1)
        assert await store.count() == 1

    async def test_a_docno_of_49_bits_is_refused(self, store: DenseStore) -> None:
        with pytest.raises(ValueError, match="docno"):
            await store.apply([upsert(2**48, 1, make_units([1.0]))], 1)

    async def test_the_position_moves_with_flush_and_not_before(self, store: DenseStore) -> None:
        assert await store.read_position() == Position("g1", 0)
        await store.apply([upsert(1, 5, make_units([1.0]))], 5)
        assert await store.read_position() == Position("g1", 0)
        assert await store.flush() == Position("g1", 5)
        assert await store.read_position() == Position("g1", 5)
        await store.apply([], 9)
        assert await store.flush() == Position("g1", 9)

    async def test_a_closed_store_opens_with_all_it_had(self, tmp_path: Path) -> None:
        if not self.lasting:
            pytest.skip("this store keeps nothing")
        store = await self.open_store(tmp_path)
        await store.apply([upsert(1, 5, make_units([1.0]), {"kw": "a"}), upsert(2, 6, make_units([0, 1]))], 6)
        await store.close()
        store = await self.open_store(tmp_path)
        assert await store.read_position() == Position("g1", 6)
        assert await collect_versions(store) == {1: 5, 2: 6}
        assert await list_docnos(store, EqualTo("kw", "a")) == [1]
        await store.close()

    async def test_many_calls_are_answered_each_with_its_own_answer(self, store: DenseStore) -> None:
        eye = np.eye(DIMENSION, dtype=np.float32)
        await store.apply([upsert(n + 1, n + 1, eye[n : n + 1]) for n in range(DIMENSION)], DIMENSION)
        answers = await asyncio.gather(*(store.find_nearest(eye[n % DIMENSION], 1, None) for n in range(100)))
        assert [answer[0].docno for answer in answers] == [n % DIMENSION + 1 for n in range(100)]

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32), steps=st.lists(st.lists(CHANGES, max_size=8), max_size=6))
    async def test_any_history_leaves_what_the_store_in_memory_has(
        self, store: DenseStore, seed: int, steps: list[list[tuple[int, int, str]]]
    ) -> None:
        random, oracle = np.random.default_rng(seed), MemoryDenseStore(GENERATION, DIMENSION)
        await store.apply([delete(docno, 1) for docno in await collect_versions(store)], 1)
        for version, step in enumerate(steps, 2):
            changes = [
                delete(docno, version) if rows < 0
                else upsert(docno, version, draw_units(random, rows), {"kw": word})
                for docno, rows, word in step
            ]  # fmt: skip
            await oracle.apply(changes, version)
            await store.apply(changes, version)
        assert await collect_versions(store) == await collect_versions(oracle)
        query = draw_units(random, 1)[0]
        for filter in (None, EqualTo("kw", "a")):
            for depth in (1, 3, 20):
                found = await store.find_nearest(query, depth, filter)
                meant = await oracle.find_nearest(query, depth, filter)
                assert [(c.docno, c.passage) for c in found] == [(c.docno, c.passage) for c in meant]
                assert [c.score for c in found] == pytest.approx([c.score for c in meant], abs=1e-5)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        held=st.lists(draw_documents(), min_size=1, max_size=12),
        filters=st.lists(FILTERS, min_size=1, max_size=6),
    )
    async def test_a_filter_lets_through_what_it_means(
        self, store: DenseStore, held: list[Fields], filters: list[Filter]
    ) -> None:
        known = [delete(docno, 1) for docno in await collect_versions(store)]
        await store.apply([*known, *(upsert(n, 1, make_units([1, n]), f) for n, f in enumerate(held))], 1)
        for filter in filters:
            meant = [n for n, fields in enumerate(held) if matches(filter, fields)]
            assert sorted(await list_docnos(store, filter)) == meant, filter

    async def test_every_edge_of_every_type_is_filtered_exactly(self, store: DenseStore) -> None:
        await store.apply([upsert(n, 1, make_units([1, n]), fields) for n, fields in enumerate(HELD)], 1)
        wrong = []
        for filter in list_edge_cases():
            meant = [n for n, fields in enumerate(HELD) if matches(filter, fields)]
            if sorted(await list_docnos(store, filter)) != meant:
                wrong.append(filter)
        assert not wrong
