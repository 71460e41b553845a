"""A model's files that a disk has changed are noticed before the model answers anything."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.damage import flip_bytes
from tests.integration.crash.server import CALL_S, Client, eventually, serving
from tests.integration.recovery.test_recovery import THINGS, create, upsert

from quarry.testing import make_tiny_encoder
from quarry.v1 import search_service_pb2 as search_pb

DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flip_bytes,
    "cut short": lambda graph: os.truncate(graph, graph.stat().st_size // 2),
    "deleted": Path.unlink,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_export_is_made_again_at_the_next_start_and_answers_do_not_change(
    encoder: Path, tmp_path: Path, damage: str
) -> None:
    data = tmp_path / "data"
    async with serving(data, encoder) as (server, client):
        await create(client, encoder)
        await upsert(client, range(40))
        before = await found(client)
        await server.stop()
    (graph,) = (data / "models").glob("*/model.onnx")
    DAMAGE[damage](graph)
    async with serving(data, encoder) as (server, client):
        assert await found(client) == before
        await upsert(client, range(40, 50))
        assert (await client.consistency(THINGS)).consistent
        assert "is made again: model.onnx" in server.log()
        await server.stop()


async def found(client: Client) -> list[tuple[str, float]]:
    """What the dense arm gives, with its scores."""
    request = search_pb.SearchRequest(
        collection=THINGS,
        query="thing7 first",
        page_size=10,
        arms=[search_pb.Arm(name="dense", depth=40)],
        require_complete=True,
    )
    answer = await eventually(lambda: client.search.Search(request, timeout=CALL_S))
    return [(hit.document.id, hit.score) for hit in answer.hits]
