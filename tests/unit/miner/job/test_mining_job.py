"""A set comes from one state of the documents, whatever is written while it is made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from tests.unit.documents.database import new_collection, new_database, writing
from tests.unit.miner.mining.seeded import seeded_texts

from quarry.documents import log
from quarry.errors import UnavailableError
from quarry.jobs.folders import WORK
from quarry.mining.sets import EXAMPLES, REPORT
from quarry.mining.spec import JudgedQuery, MiningSpec
from quarry_miner.job.mining_job import make_set

TEXTS = seeded_texts(40)
Made = Callable[[Callable[[], None]], Path]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with new_database(tmp_path / "documents.db") as engine:
        yield engine


@pytest.fixture
def made(engine: sa.Engine, tmp_path: Path) -> Made:
    key = new_collection(engine)
    write(engine, key, TEXTS)
    queries = tuple(
        JudgedQuery(id=id, text=" ".join(text.split()[:3]), judgments={id: 1}) for id, text in TEXTS.items()
    )
    folder = tmp_path / "mining" / "set"
    folder.mkdir(parents=True)

    def make(meanwhile: Callable[[], None]) -> Path:
        def progress(stage: str, _share: float) -> None:
            if stage == "mining":
                meanwhile()

        spec = MiningSpec(
            name="set", collection="things", collection_key=key, server="", preset="topk", queries=queries[:4]
        )
        make_set(spec, folder, progress)
        return folder

    return make


def write(engine: sa.Engine, key: int, texts: dict[str, str]) -> None:
    with writing(engine).begin() as connection:
        log.upsert_documents(connection, key, [log.Upsert(id, {"text": text}) for id, text in texts.items()])


def test_what_is_written_while_a_set_is_made_is_in_all_of_it(made: Made, engine: sa.Engine) -> None:
    new = [{"new": TEXTS["d000"] + " bara"}]
    folder = made(lambda: write(engine, 1, new.pop()) if new else None)
    rows = pq.read_table(folder / EXAMPLES).to_pylist()
    assert "new" in {row["negative_id"] for row in rows if row["query_id"] == "d000"}
    assert orjson.loads((folder / REPORT).read_bytes())["pairs"] == 4


def test_documents_that_keep_changing_end_the_job_with_a_typed_error(
    made: Made, engine: sa.Engine, tmp_path: Path
) -> None:
    with pytest.raises(UnavailableError, match="keep changing") as raised:
        made(lambda: write(engine, 1, {"d039": "bara"}))
    assert raised.value.reason == "DOCUMENTS_CHANGED"
    assert not list((tmp_path / "mining" / WORK).glob("*"))
