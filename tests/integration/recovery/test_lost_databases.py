"""What a data folder keeps when one of its databases has lost what it held: everything, and it is said."""

import asyncio
import contextlib
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tests.integration.crash.server import CALL_S, UNKNOWN_HOST, serving, until
from tests.integration.recovery.data_folders import (
    DOCUMENTS,
    EVENTS,
    THINGS,
    UPKEEP_DONE,
    be_of_another_folder,
    be_older,
    changing,
    contents,
    copy_databases,
    empty,
    events_counted,
    garble_middle,
    lose,
    lose_documents,
    lose_versions,
    make_feedback_older,
    open_to_all,
    open_to_others,
    refused_start,
    set_mark,
    upsert_texts,
)
from tests.integration.recovery.small_disk import fill, small_disk
from tests.integration.recovery.test_recovery import assert_whole, create, refusal, search, upsert

from quarry.collections.collections import Collections
from quarry.collections.data_folder import DataFolder
from quarry.config import Settings
from quarry.documents.catalog import CollectionSettings, create_collection
from quarry.documents.store import Database
from quarry.ending import SHORTEST_STEP_S, Ending
from quarry.errors import DataLossError
from quarry.feedback.tables import open_feedback
from quarry.registry.store import ModelRegistry
from quarry.schema import Field, FieldType, Schema
from quarry.storage.trusted_clock import DAY_US
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1.model_service_pb2_grpc import ModelServiceStub
from quarry_server.app import run_server

LOSSES = [
    ("stopped", empty("documents.db"), "documents.db holds no table"),
    ("stopped", lose("documents.db"), "documents.db is not there"),
    ("killed", lose("documents.db-wal"), "documents.db-wal, which holds the newest commits"),
    ("stopped", be_older, "documents.db has given out keys of collections up to 0"),
    ("stopped", lose_documents, "the last write of the collection things was number 150"),
    ("stopped", lose_versions, "knows models of the collection things up to number 0"),
    ("stopped", empty("feedback.db"), "feedback.db holds no table"),
    ("stopped", lose("feedback.db"), "feedback.db is not there"),
    ("killed", lose("feedback.db-wal"), "feedback.db-wal, which holds the newest commits"),
    ("stopped", be_of_another_folder, "feedback.db belongs to another data folder"),
]
EACH_LOSS = pytest.mark.parametrize(
    ("data", "damage", "told"), LOSSES, indirect=["data"], ids=[told for _, _, told in LOSSES]
)


@EACH_LOSS
def test_a_folder_whose_database_knows_less_than_it_holds_is_refused_and_stays_as_it_is(
    data: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(data)
    before = contents(data)
    codes = set()
    for accepted in ("", "another"):  # the first refusal must not make the second one believe anything
        with pytest.raises(DataLossError, match=re.escape(told)) as refused:
            DataFolder(data, accept_loss=accepted)
        codes.add(refused.value.metadata["accept_loss"])
        assert contents(data) == before
    (code,) = codes
    folder = DataFolder(data, accept_loss=code)
    database = Database(folder.open_documents())
    folder.open_database("feedback.db", open_feedback).dispose()
    ModelRegistry(data, database, lambda folder, kind: None).remove_leftovers(folder.take_away)
    database.close()
    folder.close()
    kept = contents(data)
    quarantined = {re.sub(r"^quarantine/[^/]*/", "", path) for path in kept}
    assert quarantined >= {path for path in before if not path.endswith("-wal")}
    DataFolder(data).close()  # once accepted, it is no matter of the next start


@pytest.mark.parametrize(
    ("data", "damage"),
    [
        ("stopped", empty("documents.db")),
        ("killed", lose("documents.db-wal")),
        ("stopped", be_older),
        ("stopped", empty("feedback.db")),
    ],
    indirect=["data"],
    ids=["emptied", "without its log", "older", "feedback"],
)
async def test_a_server_that_would_lose_data_does_not_start_until_the_operator_accepts_it(
    data: Path, encoder: Path, damage: Callable[[Path], None]
) -> None:
    damage(data)
    before = contents(data)
    said = await refused_start(data, encoder)
    assert "Nothing was changed" in said
    assert "Traceback" not in said
    assert contents(data) == before
    (code,) = set(re.findall(r"--accept-loss\s+([0-9a-f]{8})", said))
    async with serving(data, encoder, ACCEPT_LOSS=code) as (server, client):
        assert "going on as the operator has accepted" in server.log()
        listed = await client.collections.ListCollections(
            collections_pb.ListCollectionsRequest(), timeout=CALL_S
        )
        if not listed.collections:  # a new collection gets nothing of the old one
            await create(client, encoder)
            assert len((await search(client)).hits) == 0
            assert await events_counted(server) == 0
        await server.stop()
    kept = {re.sub(r"^quarantine/[^/]*/", "", path): content for path, content in contents(data).items()}
    models = [path for path in before if path.startswith("registry/")]
    assert models
    assert {path: kept.get(path) for path in models} == {path: before[path] for path in models}
    async with serving(data, encoder) as (server, _):
        await server.stop()


@pytest.mark.parametrize("data", ["databases"], indirect=True)
async def test_databases_copied_from_a_running_server_are_refused_and_stay_as_they_are(
    data: Path, encoder: Path
) -> None:
    before = contents(data)
    assert "which holds the newest commits, is not beside it" in await refused_start(data, encoder)
    assert contents(data) == before


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_databases_copied_from_a_stopped_server_are_a_backup_of_documents_and_feedback(
    data: Path, encoder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy_databases(data, copy)
    async with serving(copy, encoder) as (server, client):
        await assert_whole(client)
        assert await events_counted(server) == EVENTS
        async with grpc.aio.insecure_channel(server.address) as channel:
            promote = models_pb.PromoteModelRequest(name=f"{THINGS}@1")
            code, reason, _ = await refusal(ModelServiceStub(channel).PromoteModel(promote, timeout=CALL_S))
        assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "MODEL_DAMAGED")  # its files were not copied


async def test_databases_of_a_server_that_left_a_part_behind_are_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part may commit after the server has looked at it last, and the commit lies beside the database."""
    left: list[Collections] = []
    close = Collections.close

    async def hang(open_collections: Collections, _grace_s: float) -> None:
        left.append(open_collections)
        await asyncio.Event().wait()

    monkeypatch.setattr(Collections, "close", hang)
    settings = Settings(data=tmp_path / "data", port=0, drain_s=0, drain_notice_s=0)
    ending = Ending(SHORTEST_STEP_S)
    # What is behind the library must stay open for the late commit.
    monkeypatch.setattr(Database, "close", lambda database: None)
    async with run_server(settings, ending):
        pass
    monkeypatch.undo()
    assert ending.left == ["the collections"]
    (open_collections,) = left
    late = CollectionSettings("late", Schema((Field("text", FieldType.TEXT),)), "none")
    await open_collections.database.write(lambda c: create_collection(c, late))
    copy_databases(settings.data, tmp_path / "copy")
    with pytest.raises(DataLossError, match="which holds the newest commits, is not beside it"):
        DataFolder(tmp_path / "copy")
    await close(open_collections)


@pytest.mark.parametrize("data", ["killed"], indirect=True)
async def test_the_whole_folder_of_a_killed_server_is_a_backup(data: Path, encoder: Path) -> None:
    async with serving(data, encoder) as (server, client):
        await assert_whole(client)
        assert await events_counted(server) == EVENTS
        await server.stop()
    assert not [path for path in contents(data) if path.endswith("-wal") or "quarantine" in path]


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_a_start_that_fails_halfway_does_not_stop_the_next_one(data: Path, encoder: Path) -> None:
    assert "cannot listen" in await refused_start(data, encoder, **UNKNOWN_HOST)
    async with serving(data, encoder) as (server, client):
        await assert_whole(client)
        await server.stop()


async def test_a_start_that_fails_on_the_way_closes_what_it_has_opened(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", port=0, drain_s=0, drain_notice_s=0)
    known = CollectionSettings("known", Schema((Field("text", FieldType.TEXT),)), "none")
    async with run_server(settings):
        pass
    folder = DataFolder(settings.data)
    database = Database(folder.open_documents())
    key = (await database.write(lambda c: create_collection(c, known))).key
    database.close()
    folder.close()
    (folder.locate(key) / ("f" * 32)).mkdir(parents=True)  # nobody knows it, and it cannot be moved
    shutil.rmtree(settings.data / "quarantine", ignore_errors=True)
    (settings.data / "quarantine").touch()
    threads = set(threading.enumerate())
    with pytest.raises(OSError, match="quarantine"):
        async with run_server(settings):
            pass
    assert open_in(settings.data) == []
    assert not [t.name for t in set(threading.enumerate()) - threads if not t.name.startswith("work")]


def open_in(folder: Path) -> list[str]:
    """Files in a folder that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith(f"{folder}/")]


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_folders_that_no_row_names_are_moved_with_a_word_and_removed_after_their_time(
    data: Path, encoder: Path
) -> None:
    shutil.copytree(data / "registry" / "1" / "1", data / "registry" / "1" / "2")
    (generation,) = (data / "collections" / "1").iterdir()
    shutil.copytree(generation, generation.with_name("f" * 32))
    async with serving(data, encoder) as (server, client):
        await assert_whole(client)
        log = server.log()
        await server.stop()
    assert len(re.findall(r"moved .*/(?:registry/1/2|collections/1/f{32}) to .*/quarantine/", log)) == 2
    assert not (data / "registry" / "1" / "2").exists()
    kept = {re.sub(r"^quarantine/[^/]*/", "", path) for path in contents(data)}
    assert "registry/1/2/manifest.json" in kept
    assert any(path.startswith(f"collections/1/{'f' * 32}/bm25/") for path in kept)
    async with serving(data, encoder, QUARANTINE_DAYS="0") as (server, client):
        await until(lambda: not list((data / "quarantine").iterdir()))
        await assert_whole(client)
        assert server.log().count("which lay there for 0 days") == 2


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_a_database_that_cannot_be_read_says_so_in_reads_and_writes(data: Path, encoder: Path) -> None:
    async with serving(data, encoder) as (server, client):
        texts = {f"{n:04}": "word " * 2_000 for n in range(300)}
        await upsert_texts(client, texts)
        await server.stop()
    async with serving(data, encoder) as (_, client):
        garble_middle(data / "documents.db")
        for call in (search(client, "word"), upsert_texts(client, texts)):
            code, reason, message = await refusal(call)
            assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "DATA_LOSS")
            assert "cannot be read" in message
    said = await refused_start(data, encoder)
    assert re.search(r"documents\.db (cannot be read|is damaged)", said)
    assert "Traceback" not in said


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
@pytest.mark.parametrize(
    ("database", "part"),
    [("documents.db", "documents_by_version"), ("feedback.db", "impressions")],
)
def test_damage_is_said_to_be_in_the_database_that_has_it(data: Path, database: str, part: str) -> None:
    with changing(data / database) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(query, (part,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (data / database).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(DataLossError, match=f"{re.escape(database)} cannot be read"):
        DataFolder(data)


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_a_server_that_stops_on_a_full_disk_starts_again_when_there_is_space(
    data: Path, encoder: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", size_mb=400) as folder:
        shutil.copytree(data, folder, dirs_exist_ok=True)
        async with serving(folder, encoder) as (server, client):
            await assert_whole(client)
            fill(folder / "ballast")
            await server.stop()
        fill(folder / "more")  # the stop has given space back
        said = await refused_start(folder, encoder)
        assert "is full" in said
        assert "Traceback" not in said
        (folder / "ballast").unlink()
        async with serving(folder, encoder) as (server, client):
            await assert_whole(client)
            await server.stop()
        assert not (folder / "quarantine").exists()


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_one_start_with_the_clock_two_years_ahead_purges_no_feedback(data: Path, encoder: Path) -> None:
    """The folder's times are put back instead: to a server that is the same."""
    make_feedback_older(data, days=730)
    with changing(data / "documents.db") as connection:
        (clock,) = connection.execute("SELECT value FROM marks WHERE name = 'clock'").fetchone()
    earlier = ",".join(str(int(part) - 730 * DAY_US) for part in clock.split(","))
    set_mark(data / "documents.db", "clock", earlier)
    for _ in range(2):  # a second start an instant later has seen no more of the time
        async with serving(data, encoder) as (server, _):
            await until(lambda server=server: UPKEEP_DONE in server.log())  # type: ignore[misc]
            assert await events_counted(server) == EVENTS
            assert "days ahead of the last time that this data folder was in use" in server.log()
            await server.stop()


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_feedback_past_its_retention_goes_while_the_clock_is_right(data: Path, encoder: Path) -> None:
    make_feedback_older(data, days=366)
    async with serving(data, encoder) as (server, _):
        await until(lambda: UPKEEP_DONE in server.log())
        assert await events_counted(server) == 0
        await server.stop()


@pytest.mark.parametrize("data", ["stopped"], indirect=True)
async def test_nobody_else_can_read_a_data_folder_or_what_is_in_it(data: Path, encoder: Path) -> None:
    open_to_all(data)
    shutil.rmtree(data / "collections")  # it is made again, by the server and by its store process
    shutil.rmtree(data / "registry")
    async with serving(data, encoder) as (server, client):
        await upsert(client, [DOCUMENTS])
        assert open_to_others(data) == []
        await server.stop()
