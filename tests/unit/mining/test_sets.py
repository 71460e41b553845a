"""Sets lie in folders, are finished when their summary is there, and go with what they were made of."""

from dataclasses import fields
from pathlib import Path

import pytest

from quarry.documents.catalog import read_now_us
from quarry.errors import InvalidArgumentError, NotFoundError
from quarry.jobs.files import write_model
from quarry.jobs.folders import MARK, WORK
from quarry.mining import presets
from quarry.mining.members import check_members
from quarry.mining.sets import SUMMARY, MiningSets, WorkMark
from quarry.mining.spec import MiningSpec, MiningSummary
from quarry_miner.presets import registry


def finished(sets: MiningSets, name: str, key: int = 1, time_us: int = 0, **changes: object) -> None:
    values = {
        "name": name, "collection": f"c{key}", "collection_key": key, "preset": "quarry",
        "create_time_us": time_us, "verdict": "GOOD", "advice": (), "pairs": 1, "coverage": 1.0, "rows": 1,
        "false_negatives": None, "false_negatives_lower": None, "false_negatives_upper": None,
        "rungs": {}, "members": (), "simulated": False, "data_hash": "",
    }  # fmt: skip
    folder = sets.create(MiningSpec(name=name, collection=f"c{key}", collection_key=key, server=""))
    write_model(folder / SUMMARY, MiningSummary.model_validate(values | changes))


def names(sets: MiningSets) -> list[str]:
    return [summary.name for summary in sets.list_newest()]


def test_an_unfinished_set_is_no_set_and_goes_at_the_next_start(tmp_path: Path) -> None:
    sets = MiningSets(tmp_path)
    folder = sets.create(MiningSpec(name="a", collection="c", collection_key=1, server=""))
    with pytest.raises(NotFoundError):
        sets.get("a")
    assert names(sets) == []
    sets.remove_unfinished(read_now_us())
    assert not folder.exists()


def test_sets_are_listed_newest_first(tmp_path: Path) -> None:
    sets = MiningSets(tmp_path)
    for name, time in (("b", 2), ("a", 1), ("c", 2)):
        finished(sets, name, time_us=time)
    assert names(sets) == ["b", "c", "a"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", "A", ".work", "a" * 101])
def test_what_cannot_be_a_name_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        MiningSets(tmp_path).get(name)


def test_a_damaged_summary_hides_its_set_alone(tmp_path: Path) -> None:
    sets = MiningSets(tmp_path)
    finished(sets, "a")
    finished(sets, "b")
    (sets.locate("a") / SUMMARY).write_text("{")
    assert names(sets) == ["b"]


@pytest.mark.parametrize(
    ("start", "end", "gone"),
    [(None, None, True), (0, 10, False), (0, 11, True), (20, 30, True), (21, 30, False), (None, 10, False)],
)
def test_a_purge_removes_sets_made_from_feedback_of_that_time(
    tmp_path: Path, start: int | None, end: int | None, gone: bool
) -> None:
    sets = MiningSets(tmp_path)
    finished(sets, "made", feedback_start_us=10, feedback_end_us=20)
    finished(sets, "judged")
    finished(sets, "other", key=2, feedback_start_us=10, feedback_end_us=20)
    assert sets.purge(1, start, end) == (["made"] if gone else [])
    assert set(names(sets)) == {"judged", "other"} | (set() if gone else {"made"})


def test_unfinished_work_goes_with_its_feedback_and_its_collection(tmp_path: Path) -> None:
    sets = MiningSets(tmp_path)
    folders = {}
    for key in (1, 2):
        folders[key] = tmp_path / "mining" / WORK / f"w{key}"
        folders[key].mkdir(parents=True)
        write_model(folders[key] / MARK, WorkMark(collection_key=key, from_feedback=True))
    sets.purge(1, None, None)
    assert [folder.exists() for folder in folders.values()] == [False, True]
    finished(sets, "a", key=3)
    assert sets.list_keys() == {2, 3}
    assert sets.remove_by_collection({2}) == []
    assert not folders[2].exists()
    assert sets.remove_by_collection({1, 3}) == ["a"]


def test_names_of_presets_and_constants_are_the_miners() -> None:
    known = {name: tuple(f.name for f in fields(preset)) for name, preset in registry.PRESETS.items()}
    assert {name: preset.parameters for name, preset in presets.PRESETS.items()} == known
    assert presets.ALIASES == registry.ALIASES


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean perc-pos"):
        presets.check_preset("perc-pso")
    with pytest.raises(InvalidArgumentError, match=r"parameters\[shar\].*did you mean share"):
        presets.check_parameters("perc-pos", ["shar"])
    with pytest.raises(InvalidArgumentError, match=r"members\[1\].*did you mean dense"):
        check_members(["bm25", "dens"])
    assert presets.check_preset("ensemble-2024") == "enterprise-2025"
