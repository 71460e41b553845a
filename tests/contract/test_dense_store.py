"""Every dense store keeps the contract: Qdrant Edge, Qdrant's client, and the one in memory."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient
from tests.integration.network.networks import silent_proxy

from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.base import DenseStore
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.retrieval.qdrant.store import QdrantDenseStore
from quarry.testing.dense_store import DIMENSION, FIELDS, GENERATION, DenseStoreContract

pytestmark = pytest.mark.filterwarnings(  # what the client's stand-in for a server says of itself
    "ignore:Payload indexes have no effect in the local Qdrant",
    "ignore:Local mode performs exact",
)

SERVER_URL = os.environ.get("QUARRY_TEST_QDRANT_URL")
RUN = uuid.uuid4().hex
"""In the names of a server's collections, so that no earlier run has left anything in them."""


async def open_qdrant(collection: str, path: Path | None = None) -> DenseStore:
    """A store on the server that the environment names, or else one of the client's own."""
    if SERVER_URL:
        client = AsyncQdrantClient(url=SERVER_URL, prefer_grpc=True)
    else:
        client = AsyncQdrantClient(path=str(path)) if path else AsyncQdrantClient(location=":memory:")
    return await QdrantDenseStore.open(client, collection, GENERATION, DIMENSION, FIELDS)


class TestMemory(DenseStoreContract):
    lasting = False

    async def open_store(self, folder: Path) -> DenseStore:
        return MemoryDenseStore(GENERATION, DIMENSION)


class TestEdge(DenseStoreContract):
    async def open_store(self, folder: Path) -> DenseStore:
        return await EdgeDenseStore.open(StoreSettings(folder / "edge", GENERATION, DIMENSION, FIELDS))


class TestQdrant(DenseStoreContract):
    """Only what is opened again is kept in files, for the stand-in writes each point by itself."""

    most_passages = 100

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[DenseStore]:
        opened = await open_qdrant(f"quarry-{RUN}-{tmp_path.name}")
        yield opened
        await opened.close()

    async def open_store(self, folder: Path) -> DenseStore:
        return await open_qdrant(f"quarry-{RUN}-{folder.name}", folder / "qdrant")


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
        await QdrantDenseStore.open(client, "documents", GENERATION, DIMENSION, FIELDS)


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
                await QdrantDenseStore.open(client, "documents", GENERATION, DIMENSION, FIELDS, timeout_s=0.5)
        assert silent.connections


async def test_a_qdrant_server_that_falls_silent_holds_up_no_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("quarry.retrieval.qdrant.store.CLOSE_TIMEOUT_S", 0.2)
    store = await open_qdrant("documents")

    async def silence(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store._client, "upsert", silence)  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        await store.close()
    assert "is not written: no answer" in caplog.text
