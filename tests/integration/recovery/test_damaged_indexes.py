"""Damage to indexes that no engine notices: CheckConsistency finds it, and RepairCollection mends it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from tests.integration.crash.checks import describe
from tests.integration.crash.server import CALL_S, Client, eventually, serving
from tests.integration.recovery.test_recovery import DOCUMENTS, THINGS, create, generation, upsert

from quarry.documents.vector_cache import CachedVectors, VectorCache
from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import search_service_pb2 as search_pb

Hits = list[tuple[str, float]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> AsyncIterator[tuple[Path, Hits]]:
    """The folder of a server that was stopped in good order, and what it answered."""
    data = tmp_path_factory.mktemp("filled") / "data"
    async with serving(data, encoder) as (server, client):
        await create(client, encoder)
        await upsert(client, range(DOCUMENTS))
        found = await client.consistency(THINGS)
        assert found.consistent
        (dense,) = (arm for arm in found.arms if arm.arm == "dense")
        assert (dense.vectors_checked, dense.documents_encoded) == (DOCUMENTS, 16)
        answered = await hits(client)
        await server.stop()
    yield data, answered


@pytest.fixture
def data(filled: tuple[Path, Hits], tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled[0], tmp_path / "data"))


async def hits(client: Client) -> Hits:
    request = search_pb.SearchRequest(
        collection=THINGS,
        query="thing7 first",
        page_size=100,
        arms=[search_pb.Arm(name=name, depth=DOCUMENTS) for name in ("bm25", "dense")],
        require_complete=True,
    )
    answer = await eventually(lambda: client.search.Search(request, timeout=CALL_S))
    return [(hit.document.id, round(hit.score, 5)) for hit in answer.hits]


async def differences(client: Client, arm: str) -> collections_pb.ArmDifferences:
    """Of a check that must find something."""
    found = await client.consistency(THINGS)
    assert not found.consistent
    return next(one for one in found.arms if one.arm == arm)


def zero(file: Path, start: int, count: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(b"\0" * count)


@pytest.mark.parametrize("vectors", [DOCUMENTS, 1])
async def test_zeroed_vectors_are_found_and_encoded_again(
    data: Path, encoder: Path, filled: tuple[Path, Hits], vectors: int
) -> None:
    (chunk,) = (generation(data) / "dense").glob("shard-*/segments/*/vector_storage-passage/vectors/chunk_0*")
    dimension = 32
    zero(chunk, 0, vectors * dimension * 4)
    async with serving(data, encoder) as (server, client):
        dense = await differences(client, "dense")
        assert dense.damaged.count == vectors
        assert len(dense.damaged.sample_ids) == min(vectors, 100)
        repaired = await client.repair(THINGS)
        assert not repaired.found.consistent
        assert repaired.after.consistent, describe(repaired.after)
        assert await hits(client) == filled[1]
        await server.stop()
    async with serving(data, encoder) as (server, client):
        assert (await client.consistency(THINGS)).consistent
        assert await hits(client) == filled[1]
        await server.stop()


async def test_vectors_of_a_damaged_model_are_found_and_not_taken_from_the_cache_again(
    data: Path, encoder: Path, filled: tuple[Path, Hits]
) -> None:
    """Cache and index agree with each other, and the cache's checksums are right."""
    cache = VectorCache(data / "vectors.db")
    random = np.random.default_rng(1)
    for key in _keys(cache):
        kept = cache.get_many([key])[key]
        wrong = random.standard_normal(kept.vectors.shape).astype(np.float32)
        wrong /= np.linalg.norm(wrong, axis=1, keepdims=True)
        cache.put_many({key: CachedVectors(kept.cut, wrong)})
    cache.close()
    shutil.rmtree(generation(data) / "dense")
    async with serving(data, encoder) as (server, client):
        await eventually(lambda: client.consistency(THINGS))
        assert await hits(client) != filled[1]
        assert (await differences(client, "dense")).damaged.count == 16  # those that were encoded again
        repaired = await client.repair(THINGS)
        (found,) = (arm for arm in repaired.found.arms if arm.arm == "dense")
        assert (found.damaged.count, found.documents_encoded) == (DOCUMENTS, DOCUMENTS)
        assert repaired.after.consistent, describe(repaired.after)
        assert await hits(client) == filled[1]
        await server.stop()


def _keys(cache: VectorCache) -> list[bytes]:
    rows: list[tuple[bytes]] = cache._file.run(lambda c: c.execute("SELECT key FROM vector").fetchall(), [])
    return [key for (key,) in rows]


@pytest.mark.parametrize("suffix", ["idx", "fieldnorm"])
async def test_changed_files_of_bm25_are_found_and_made_anew(
    data: Path, encoder: Path, filled: tuple[Path, Hits], suffix: str
) -> None:
    for file in (generation(data) / "bm25").glob(f"*.{suffix}"):
        content = bytearray(file.read_bytes())
        content[3] ^= 1
        file.write_bytes(content)
    async with serving(data, encoder) as (server, client):
        bm25 = await differences(client, "bm25")
        assert bm25.damaged_files.endswith(f".{suffix} has changed")
        repaired = await client.repair(THINGS)
        assert not repaired.found.consistent
        assert repaired.after.consistent
        assert await hits(client) == filled[1]
        await server.stop()
