"""An archive of a megabyte, or a config of a few bytes, harms nobody but its import."""

import gzip
import io
import json
import tarfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.integration.api.helpers.models import Models, import_stream, tar_of, tiny_reranker
from tests.integration.api.helpers.served import CALL_S, Api, Failure, failure, served, tiny_settings
from tests.integration.crash.server import Server, until
from tests.unit.registry.test_archive import compressed

from quarry.v1 import collection_service_pb2, collection_service_pb2_grpc, model_service_pb2_grpc
from quarry.v1 import server_service_pb2 as server_pb

ANSWER_S = 30.0


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reranker(tmp_path_factory.mktemp("reranker"), seed=5)


@pytest.fixture
def models(api: Api) -> Models:
    return Models(api)


def refused(models: Models, collection: str, archive: bytes) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        models.imported(collection, archive=archive)
    return failure(caught.value)


def with_config(reranker: Path, **changes: Any) -> bytes:
    config = json.loads((reranker / "config.json").read_text()) | changes
    files = {file.name: file.read_bytes() for file in reranker.iterdir() if file.is_file()}
    return archive_of(files | {"config.json": json.dumps(config).encode()})


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def memory(peak: str = "VmHWM") -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1_024 for line in status.splitlines() if line.startswith(peak))


@pytest.mark.parametrize("name", ["version.json", "model.safetensors", "vocab.txt"])
def test_a_bomb_takes_neither_memory_nor_disk(
    api: Api, models: Models, lexical: str, server_folder: Path, tmp_path: Path, name: str
) -> None:
    bomb = compressed(partial(gzip.open, compresslevel=6), tmp_path / "bomb", name, size=2**28)
    assert len(bomb) < 2**19
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = memory("VmRSS")
    failed = refused(models, lexical, bomb)
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.reason == "LIMIT_EXCEEDED"
    assert memory() - before < 64 * 2**20
    assert not [file for file in (server_folder / "registry").rglob("*") if file.name.startswith(".staged")]


def test_hostile_names_are_the_callers_error(models: Models, lexical: str, reranker: Path) -> None:
    files = {file.name: file.read_bytes() for file in reranker.iterdir() if file.is_file()}
    for name in ("a/" * 2_000 + "config.json", "a" * 2_000, "\x1b[31mred/../../x", "a/" * 20_000 + "x"):
        failed = refused(models, lexical, archive_of(files | {name: b"{}"}))
        assert failed.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED), failed
        assert len(failed.message) < 300
        assert "\x1b" not in failed.message


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 100_000},
        {"vocab_size": 10**12},
        {"hidden_size": 10**7},
        {"num_labels": 10**9},
        {"max_position_embeddings": 10**11},
        {"model_type": "x" * 100_000},
        {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"},
    ],
)
def test_a_config_that_asks_for_too_much_is_refused_in_time(
    models: Models, lexical: str, reranker: Path, changes: dict[str, Any]
) -> None:
    began_s = time.monotonic()
    failed = refused(models, lexical, with_config(reranker, **changes))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION, failed
    assert failed.reason == "MODEL_UNUSABLE"
    assert len(failed.message) < 600
    assert time.monotonic() - began_s < ANSWER_S


def test_deep_json_in_an_archive_is_the_callers_error(models: Models, lexical: str, reranker: Path) -> None:
    files = {file.name: file.read_bytes() for file in reranker.iterdir() if file.is_file()}
    deep = b"[" * 200_000
    for name in ("config.json", "version.json", "tokenizer.json", "tokenizer_config.json", "blend.json"):
        failed = refused(models, lexical, archive_of(files | {name: deep}))
        expected = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
        assert failed.code in expected, (name, failed)


def test_the_limits_are_published_and_kept(folder: Path, encoder_folder: Path, reranker: Path) -> None:
    whole = tar_of(reranker)
    limits = {"archive_bytes": len(whole) - 1, "archive_files": 3, "archive_ratio": 5.0}
    with served(tiny_settings(folder, encoder_folder, uploads=limits, jobs={"trial_s": 7.0})) as api:
        api.create("faq", encoder="none")
        told = api.server.GetServerInfo(server_pb.GetServerInfoRequest(), timeout=CALL_S).limits
        assert (told.max_archive_bytes, told.max_archive_files) == (len(whole) - 1, 3)
        assert (told.max_archive_ratio, told.model_trial_time.seconds) == (5.0, 7)
        assert told.job_memory_bytes > 2**28
        assert told.max_examples_rows and told.max_examples_text_bytes and told.max_event_line_bytes
        assert "bytes" in refused(Models(api), "faq", whole).message
        many = archive_of({f"{n}.txt": b"x" for n in range(4)})
        assert "over 3 files" in refused(Models(api), "faq", many).message


async def test_a_model_whose_trial_takes_too_long_neither_blocks_nor_holds_the_server(
    tmp_path: Path, encoder_folder: Path, reranker: Path
) -> None:
    server = await Server.start(tmp_path / "data", encoder_folder, JOBS__TRIAL_S="0.5")
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            collections: Any = collection_service_pb2_grpc.CollectionServiceStub(channel)
            await collections.CreateCollection(_collection("faq"), timeout=CALL_S)
            importing: Any = model_service_pb2_grpc.ModelServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await importing.ImportModel(
                    import_stream(tar_of(reranker), collection="faq"), timeout=ANSWER_S
                )
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "jobs.trial_s" in str(caught.value.details())
    finally:
        await server.stop()


async def test_a_trial_ends_with_its_server(tmp_path: Path, encoder_folder: Path, reranker: Path) -> None:
    server = await Server.start(tmp_path / "data", encoder_folder)
    async with grpc.aio.insecure_channel(server.address) as channel:
        collections: Any = collection_service_pb2_grpc.CollectionServiceStub(channel)
        await collections.CreateCollection(_collection("faq"), timeout=CALL_S)
        importing: Any = model_service_pb2_grpc.ModelServiceStub(channel)
        archive = with_config(reranker, num_hidden_layers=1_000)
        call = importing.ImportModel(import_stream(archive, collection="faq"), timeout=CALL_S)
        trial = await _trial_of(server)
        began_s = time.monotonic()
        await server.stop()
        assert time.monotonic() - began_s < 20
        assert not trial.is_running()
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def _trial_of(server: Server) -> psutil.Process:
    """The server's process that tries a model, once it is there."""
    found: list[psutil.Process] = []

    def there() -> bool:
        children = psutil.Process(server.pid).children()
        found.extend(child for child in children if "quarry.models.trial" in child.cmdline())
        return bool(found)

    await until(there)
    return found[0]


def _collection(name: str) -> collection_service_pb2.CreateCollectionRequest:
    collection = collection_service_pb2.Collection(name=name, encoder="none")
    return collection_service_pb2.CreateCollectionRequest(collection=collection)
