"""One data folder with documents, feedback and a model, copied in three states."""

import asyncio
import shutil
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from tests.integration.api.helpers.models import import_stream, tar_of
from tests.integration.crash.server import CALL_S, serving, until
from tests.integration.recovery.data_folders import (
    DOCUMENTS,
    THINGS,
    copy_databases,
    leave_feedback,
    stats_of,
)
from tests.integration.recovery.test_recovery import assert_whole, create, search, upsert

from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.v1.model_service_pb2_grpc import ModelServiceStub


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folders(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> dict[str, Path]:
    """Copies of one data folder: while its server ran, killed, and after it had stopped in good order."""
    home = tmp_path_factory.mktemp("folders")
    data, copies = home / "data", {name: home / name for name in ("killed", "stopped", "databases")}
    reranker = tar_of(make_tiny_cross_encoder(home / "reranker", seed=2))
    async with serving(data, encoder) as (server, client):
        await create(client, encoder)
        await upsert(client, range(DOCUMENTS))
        async with grpc.aio.insecure_channel(server.address) as channel:
            await leave_feedback(channel, (await search(client)).attribution_token)
            importing = ModelServiceStub(channel).ImportModel(
                import_stream(reranker, collection=THINGS), timeout=CALL_S
            )
            assert (await importing).model.name == f"{THINGS}@1"
            async with asyncio.timeout(CALL_S):
                while not (await stats_of(channel)).impressions:  # noqa: ASYNC110  written behind the answer
                    await asyncio.sleep(0.05)
        copy_databases(data, copies["databases"])
        children = server.processes("store_worker")
        await server.kill()
        await until(lambda: not any(child.is_running() for child in children))
    shutil.copytree(data, copies["killed"])
    async with serving(data, encoder) as (server, client):
        await assert_whole(client)
        await server.stop()
    shutil.copytree(data, copies["stopped"])
    return copies


@pytest.fixture
def data(folders: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the folder that the test's parameter names."""
    return Path(shutil.copytree(folders[request.param], tmp_path / "data"))
