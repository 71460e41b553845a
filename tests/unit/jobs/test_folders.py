"""Unfinished work is found by its mark, stays while it begins, and goes when nobody asks for it again."""

import os
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from quarry.errors import DataLossError, NotFoundError, UnavailableError
from quarry.jobs.files import read_answer, remove_folder, write_model
from quarry.jobs.folders import (
    BEGINNING_S,
    MARK,
    WORK_LIFETIME_S,
    JobFolders,
    JobRecords,
    WorkFolders,
    open_work,
)
from quarry.mining.sets import MiningSets


class Mark(BaseModel):
    key: int


class Record(BaseModel):
    name: str
    collection: str = "faq"
    collection_key: int = 1
    began_us: int = 0
    feedback_start_us: int | None = None
    feedback_end_us: int | None = None


def make_old(folder: Path, seconds: float) -> None:
    os.utime(folder, (0, time.time() - seconds))


def test_work_that_begins_has_no_mark_yet_and_stays(tmp_path: Path) -> None:
    work = WorkFolders(tmp_path, Mark)
    begins, left, damaged = (tmp_path / ".work" / name for name in ("begins", "left", "damaged"))
    for folder in (begins, left, damaged):
        folder.mkdir(parents=True)
    make_old(left, BEGINNING_S + 1)
    (damaged / MARK).write_text("{")
    assert work.list_marks() == []
    assert [folder.exists() for folder in (begins, left, damaged)] == [True, False, False]


def test_a_list_of_mining_sets_leaves_the_work_of_a_job_that_begins(tmp_path: Path) -> None:
    begins = tmp_path / "mining" / ".work" / "begins"
    begins.mkdir(parents=True)
    assert MiningSets(tmp_path).list_keys() == set()
    assert begins.exists()


def test_work_goes_after_a_week(tmp_path: Path) -> None:
    work = WorkFolders(tmp_path, Mark)
    new, old = (open_work(tmp_path / ".work" / name, Mark(key=1)) for name in ("new", "old"))
    make_old(old, WORK_LIFETIME_S + 60)
    make_old(new, WORK_LIFETIME_S - 60)
    work.remove_old(time.time_ns() // 1_000)
    assert (new.exists(), old.exists()) == (True, False)
    assert work.list_marks() == [Mark(key=1)]


def test_work_is_removed_by_what_it_is_marked_with(tmp_path: Path) -> None:
    work = WorkFolders(tmp_path, Mark)
    first, second = (open_work(tmp_path / ".work" / str(key), Mark(key=key)) for key in (1, 2))
    work.remove_where(lambda mark: mark.key == 1)
    assert (first.exists(), second.exists()) == (False, True)


def test_a_damaged_record_is_data_loss_for_whoever_asks_for_it(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    records = JobRecords(folders, Record, "record.json", "count", "count")
    for name in ("good", "bad"):
        write_model(folders.create(name, Mark(key=1)) / "record.json", Record(name=name))
    folders.create("unfinished", Mark(key=1))
    (records.locate("bad") / "record.json").write_text("{")
    assert records.get("good") == Record(name="good")
    with pytest.raises(DataLossError, match=r"record\.json of the count bad"):
        records.get("bad")
    with pytest.raises(NotFoundError, match="no count is called 'unfinished'"):
        records.get("unfinished")
    assert [record.name for record in records.list_newest()] == ["good"]
    assert [folder.name for folder in records.list_unfinished()] == ["unfinished"]


def test_a_folder_that_cannot_be_made_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file where the folder belongs")
    with pytest.raises(UnavailableError, match="the count cannot be written down"):
        JobFolders(tmp_path / "jobs", "count").create("a", Mark(key=1))


def test_a_removed_folder_loses_its_record_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = JobFolders(tmp_path).create("a", Mark(key=1))
    (folder / "record.json").touch()
    seen: list[bool] = []
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: seen.append((path / "record.json").exists()))
    remove_folder(folder, "record.json")
    assert seen == [False]


def test_an_answer_is_read_as_what_it_should_be(tmp_path: Path) -> None:
    write_model(tmp_path / "answer.json", Mark(key=3))
    assert read_answer(tmp_path / "answer.json", Mark) == Mark(key=3)
