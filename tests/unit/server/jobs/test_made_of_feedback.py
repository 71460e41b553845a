"""The outcome of a mining job goes from the disk with the set that it tells of."""

from pathlib import Path

from quarry.documents.store import Database
from quarry.documents.tables import open_database
from quarry.jobs.operations import Operations, SetMetadata
from quarry_server.feedback.jobs import MadeOfFeedback


async def test_no_file_keeps_what_a_purged_sets_report_said(tmp_path: Path) -> None:
    database = Database(open_database(tmp_path / "documents.db"))
    operations = Operations(database.engine, database.writer, lambda error: str(error).encode())
    words = b"confidentialquery"

    def on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())

    async def ended(kind: str, response: bytes) -> str:
        async def job(set_metadata: SetMetadata) -> bytes:
            await set_metadata(b"half")
            return response

        name = (await operations.start(kind, b"", job)).name
        await operations.wait(name, None)
        return name

    async def purge_sets(key: int, start_us: int | None, end_us: int | None) -> list[str]:
        return ["set-1"]

    told = [await ended("mine", b"set-1 " + words * size) for size in (1, 20, 10_000)]
    kept = [await ended("mine", b"set-2 fine"), await ended("purge-feedback", b"set-1")]
    assert words in on_disk()
    made = MadeOfFeedback(purge_sets, operations, database.engine)
    assert await made.purge(1, None, None) == ["set-1"]
    assert words not in on_disk()
    left = {operation.name for operation in await operations.read_page("", 100)}
    assert left == set(kept)
    assert not left & set(told)
    database.close()
