"""A dense store of Qdrant Edge, opened for a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.liveness.edge_stores import (
    DIMENSION,
    FIELDS,
    GRAPH,
)

from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import StoreSettings


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    return StoreSettings(tmp_path / "dense", "g1", DIMENSION, FIELDS, GRAPH)


@pytest.fixture
async def store(settings: StoreSettings) -> AsyncIterator[EdgeDenseStore]:
    opened = await EdgeDenseStore.open(settings)
    yield opened
    await opened.close()
