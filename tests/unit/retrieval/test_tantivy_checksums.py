"""Which files of a Tantivy index count as damaged, while merges and deletions replace them."""

import json
import zlib
from pathlib import Path

import pytest

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, RetrieverUnavailableError
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.tantivy_checksums import COMPONENTS, END, MAGIC, META, find_damaged_file
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Change, Docno


def write(file: Path, content: bytes) -> None:
    footer = json.dumps({"crc": zlib.crc32(content)}).encode()
    file.write_bytes(content + footer + END.pack(len(footer), MAGIC))


def commit(folder: Path, segment: str) -> None:
    """Makes ``segment`` the only one of the index, as a merge does."""
    before = list(folder.glob("*.*"))
    for component in COMPONENTS:
        write(folder / f"{segment}.{component}", component.encode())
    listed = {"segments": [{"segment_id": segment, "deletes": None}]}
    (folder / "new").write_text(json.dumps(listed))
    (folder / "new").rename(folder / META)
    for file in before:
        if file.name != META:
            file.unlink()


class Merging:
    """Merges ``times`` times while a check reads; it calls this."""

    def __init__(self, folder: Path, times: int) -> None:
        self._folder, self._times, self.segment = folder, times, 1
        commit(folder, "1")

    def __call__(self) -> None:
        if self.segment <= self._times:
            self.segment += 1
            commit(self._folder, str(self.segment))


def test_files_that_merges_remove_are_not_damaged(tmp_path: Path) -> None:
    merging = Merging(tmp_path, 5)
    assert find_damaged_file(tmp_path, merging) == ""
    assert merging.segment == 6


def test_what_a_merge_has_written_is_read(tmp_path: Path) -> None:
    merging = Merging(tmp_path, 1)

    def merge_and_damage() -> None:
        merging()
        write(tmp_path / "2.pos", b"other")
        with (tmp_path / "2.pos").open("r+b") as file:
            file.write(b"x")

    assert find_damaged_file(tmp_path, merge_and_damage) == "2.pos has changed"


def test_a_file_of_the_last_commit_that_is_gone_is_damage(tmp_path: Path) -> None:
    commit(tmp_path, "1")
    (tmp_path / "1.store").unlink()
    assert find_damaged_file(tmp_path) == "1.store is gone"
    (tmp_path / META).unlink()
    assert find_damaged_file(tmp_path) == f"{META} cannot be read (FileNotFoundError)"


def test_what_ends_the_reading_is_raised(tmp_path: Path) -> None:
    commit(tmp_path, "1")

    def stop() -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        find_damaged_file(tmp_path, stop)


def test_the_file_of_deletions_belongs_to_a_real_index(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path, "g1", DEFAULT_SCHEMA)
    index.apply([Change(Docno(n), n, {"text": f"thing {n}"}) for n in range(1, 20)])
    index.commit(1)
    for n in range(1, 4):
        index.apply([Change(Docno(n), 20 + n, None)])
        index.commit(1 + n)
    assert index.find_damage(Deadline()) == ""
    deletions = {file.name for file in tmp_path.glob("*.del")}
    assert deletions
    index.close()
    for name in deletions:
        (tmp_path / name).unlink()
    assert find_damaged_file(tmp_path).removesuffix(" is gone") in deletions


def test_an_index_reads_its_files_while_there_is_time_and_it_is_open(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path, "g1", DEFAULT_SCHEMA)
    with pytest.raises(DeadlineExceeded):
        index.find_damage(Deadline.set_after(0))
    assert index.find_damage(Deadline()) == ""
    index.close()
    with pytest.raises(RetrieverUnavailableError, match="closed"):
        index.find_damage(Deadline())
