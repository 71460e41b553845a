"""Uploaded files are kept once, checked before they are kept, and removed when nobody uses them."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.training.samples import write_bomb, write_examples

from quarry.documents.catalog import read_now_us
from quarry.errors import (
    DiskFullError,
    FailedPreconditionError,
    InvalidArgumentError,
    LimitExceededError,
    NotFoundError,
)
from quarry.training.examples_limits import ExamplesLimits
from quarry.training.folders import FOLDER, UPLOADS
from quarry.training.uploads import LIFETIME_S, MAX_FOOTER_BYTES, Uploads, check_examples


def keep(uploads: Uploads, data: bytes, piece: int = 100) -> tuple[str, int]:
    upload = uploads.begin()
    try:
        for start in range(0, len(data), piece):
            upload.add(data[start : start + piece])
        return upload.finish()
    finally:
        upload.drop()


def kept(data: Path) -> list[str]:
    return sorted(path.name for path in (data / FOLDER / UPLOADS).iterdir())


def test_a_file_is_named_by_its_bytes_and_kept_once(tmp_path: Path) -> None:
    data = write_examples(tmp_path / "x", rows=3)
    uploads = Uploads(tmp_path)
    name, rows = keep(uploads, data)
    assert (name, rows) == (hashlib.blake2b(data, digest_size=16).hexdigest(), 3)
    assert keep(uploads, data, piece=7) == (name, rows)
    assert kept(tmp_path) == [f"{name}.parquet"]
    assert uploads.locate(name).read_bytes() == data


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"negative_id": None, "weight": None}, "lacks the columns negative_id, weight"),
        ({"label": "no"}, "string in the column label"),
        ({"label": 0.5}, "double in the column label"),
        ({"query": 3}, "int64 in the column query, not text"),
        ({"weight": "heavy"}, "string in the column weight"),
    ],
)
def test_columns_that_training_cannot_read_are_named(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    data = write_examples(tmp_path / "x", **changes)
    with pytest.raises(InvalidArgumentError, match=told) as raised:
        keep(Uploads(tmp_path), data)
    assert raised.value.field == "parquet"
    assert kept(tmp_path) == []


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    whole = write_examples(tmp_path / "x")
    for data in (b"", b"PAR1", b"not Parquet" * 100, whole[:-10], whole[10:]):
        with pytest.raises(InvalidArgumentError) as raised:
            keep(Uploads(tmp_path), data)
        assert raised.value.field == "parquet"
        assert kept(tmp_path) == []


def test_more_columns_and_an_empty_table_are_fine(tmp_path: Path) -> None:
    write_examples(tmp_path / "x", rows=1, weight=1, s_qd=0.5, note="more")
    assert check_examples(tmp_path / "x") == 1
    write_examples(tmp_path / "x", rows=0)  # its columns have no type
    assert check_examples(tmp_path / "x") == 0


def test_a_file_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    data = write_examples(tmp_path / "x")
    with pytest.raises(LimitExceededError):
        keep(Uploads(tmp_path, ExamplesLimits(bytes=len(data) - 1)), data)
    assert kept(tmp_path) == []
    assert keep(Uploads(tmp_path, ExamplesLimits(bytes=len(data) + 4_000)), data)


def test_what_a_file_says_that_it_holds_is_bounded(tmp_path: Path) -> None:
    data = write_bomb(tmp_path / "x", rows=1_000, text_bytes=2**20)
    assert len(data) < 10_000
    for limits, told in (
        (ExamplesLimits(rows=999), "999 rows"),
        (ExamplesLimits(bytes=2**20), "decompressed"),
    ):
        with pytest.raises(LimitExceededError, match=told):
            keep(Uploads(tmp_path, limits), data)
        assert kept(tmp_path) == []
    assert keep(Uploads(tmp_path, ExamplesLimits(rows=1_000, bytes=2**21)), data)[1] == 1_000


def test_a_footer_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    data = write_examples(tmp_path / "x")
    for size in (MAX_FOOTER_BYTES + 1, 2**32 - 1):
        with pytest.raises(InvalidArgumentError, match="footer"):
            keep(Uploads(tmp_path), data[:-8] + size.to_bytes(4, "little") + b"PAR1")


def test_columns_that_are_nested_deeply_are_refused(tmp_path: Path) -> None:
    kind = pa.string()
    for _ in range(5_000):
        kind = pa.struct([("a", kind)])
    pq.ParquetWriter(tmp_path / "x", pa.schema([("query", kind)]), store_schema=False).close()
    with pytest.raises(InvalidArgumentError, match="nested") as raised:
        keep(Uploads(tmp_path), (tmp_path / "x").read_bytes(), piece=2**20)
    assert len(str(raised.value)) < 500


def test_files_that_nobody_uses_go_at_the_start_and_use_keeps_them(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    names = [keep(uploads, write_examples(tmp_path / "x", rows=n))[0] for n in (1, 2, 3)]
    long_ago = time.time() - LIFETIME_S - 60
    for name in names[:2]:
        os.utime(tmp_path / FOLDER / UPLOADS / f"{name}.parquet", (long_ago, long_ago))
    (tmp_path / FOLDER / UPLOADS / "half.part").touch()
    uploads.locate(names[1])
    uploads.remove_unused(read_now_us())
    assert kept(tmp_path) == sorted(f"{name}.parquet" for name in names[1:])


@pytest.mark.parametrize("name", ["", "x", "../../documents", "0" * 32, "0" * 31 + "/"])
def test_a_name_that_is_none_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        Uploads(tmp_path).locate(name)


def test_without_pyarrow_the_answer_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(FailedPreconditionError, match=r"pip install quarry-search\[trainer\]"):
        Uploads(tmp_path).begin()


def test_a_disk_that_is_full_is_a_typed_error(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    upload = uploads.begin()
    upload._file.close()
    upload._file = Path("/dev/full").open("wb")  # noqa: SIM115  dropped below
    with pytest.raises(DiskFullError):
        upload.add(b"x" * 2**20)
    upload.drop()
    assert kept(tmp_path) == []
