"""Jobs lie in folders of their own; what they leave is found by the same request, and by no other."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.training.samples import evaluation_spec, spec

from quarry.documents.catalog import read_now_us
from quarry.errors import QuarryError, UnavailableError
from quarry.jobs.files import read_answer
from quarry.jobs.folders import MARK, SPEC, WORK_LIFETIME_S
from quarry.training.folders import FOLDER, UPLOADS, TrainingFolders, find_work, list_keys, name_attempt
from quarry.training.spec import ModelRef, TrainingResult, TrainingSpec


def test_a_job_finds_in_its_folder_what_is_asked_of_it(tmp_path: Path) -> None:
    asked = spec()
    folder = TrainingFolders(tmp_path).create(asked)
    assert folder == tmp_path / FOLDER / "faq-1"
    assert TrainingSpec.model_validate_json((folder / SPEC).read_bytes()) == asked


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"name": "faq-9", "server": "other:1", "create_time_us": 7, "description": "d"}, True),
        ({"precision": "int8"}, True),
        ({"seed": 1}, False),
        ({"steps": 5}, False),
        ({"base": ModelRef(name="base", folder="/elsewhere")}, False),
        ({"examples_name": "other", "examples": "/data/other.parquet"}, False),
    ],
)
def test_the_same_request_finds_its_work_again(tmp_path: Path, changes: dict[str, Any], same: bool) -> None:
    first = find_work(tmp_path / FOLDER / "faq-1", spec())
    (first / "checkpoint").write_text("x")
    second = find_work(tmp_path / FOLDER / "faq-9", spec(**changes))
    assert (second == first) is same
    assert (second / "checkpoint").exists() is same


def test_an_attempt_is_the_same_until_its_work_is_removed(tmp_path: Path) -> None:
    folders, asked = TrainingFolders(tmp_path), spec()
    first = name_attempt(find_work(tmp_path / FOLDER / "faq-1", asked))
    assert name_attempt(find_work(tmp_path / FOLDER / "faq-2", spec(name="faq-2"))) == first
    assert name_attempt(find_work(tmp_path / FOLDER / "faq-1", spec(seed=1))) != first
    folders.remove_work(asked)
    assert name_attempt(find_work(tmp_path / FOLDER / "faq-3", asked)) != first


def test_a_start_removes_jobs_but_neither_their_work_nor_uploads(tmp_path: Path) -> None:
    folders = TrainingFolders(tmp_path)
    ended = folders.create(spec())
    (tmp_path / FOLDER / "killed-before-its-spec").mkdir()
    work = find_work(ended, spec())
    old = find_work(ended, spec(seed=1))
    os.utime(old, (0, time.time() - WORK_LIFETIME_S - 60))
    upload = tmp_path / FOLDER / UPLOADS / "x.parquet"
    upload.parent.mkdir()
    upload.touch()
    folders.remove_unfinished(read_now_us())
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == [".work", UPLOADS]
    assert work.exists()
    assert not old.exists()
    assert upload.exists()


def test_work_goes_with_any_collection_that_it_reads_and_with_its_mining_set(tmp_path: Path) -> None:
    folders = TrainingFolders(tmp_path)
    folder = tmp_path / FOLDER / "faq-1"
    own, other = find_work(folder, spec()), find_work(folder, spec(key=2, examples_name="kept"))
    documents = {"collections": (("faq", 1), ("web", 3)), "max_queries": 5}
    both = find_work(folder, spec(examples=None, examples_name="", document_pretraining=documents))
    unmarked = find_work(folder, spec(seed=5))
    (unmarked / MARK).write_text("{")
    assert folders.list_keys() == {1, 2, 3}
    assert not unmarked.exists()
    folders.remove_by_collection([3])
    assert (own.exists(), other.exists(), both.exists()) == (True, True, False)
    folders.remove_made_of(["set"])
    assert (own.exists(), other.exists()) == (False, True)
    folders.remove_work(spec(key=2, examples_name="kept"))
    assert not other.exists()


def test_a_job_reads_its_collection_and_those_that_it_bootstraps_from() -> None:
    assert list_keys(spec(key=4)) == (4,)
    assert list_keys(evaluation_spec()) == (1,)
    assert list_keys(spec(key=4, document_pretraining={"collections": (("a", 2), ("b", 4))})) == (2, 4)


def test_an_answer_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(QuarryError, match=r"no readable result\.json"):
        read_answer(tmp_path / "result.json", TrainingResult)
    (tmp_path / "result.json").write_text('{"steps": null}')
    with pytest.raises(QuarryError, match="ValidationError"):
        read_answer(tmp_path / "result.json", TrainingResult)


def test_a_folder_that_cannot_be_made_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder belongs")
    with pytest.raises(UnavailableError, match="the job cannot be written down"):
        TrainingFolders(tmp_path).create(spec())
