"""Reports of the loop are kept, listed and purged; how far it has come outlives them."""

from pathlib import Path

import pytest
from tests.unit.training.loops import loop_report, loop_spec

from quarry.errors import NotFoundError, UnavailableError
from quarry.jobs.files import write_model
from quarry.training.loop_reports import PAGE, REPORT, LoopPlace, LoopReports, Unfinished
from quarry.training.loop_spec import LoopReport


def kept(reports: LoopReports, report: LoopReport) -> Path:
    folder = reports.create(loop_spec(report.name, report.collection_key))
    (folder / PAGE).write_text("<html>")
    write_model(folder / REPORT, report)
    return folder


def test_a_turn_counts_when_its_report_is_there(tmp_path: Path) -> None:
    reports = LoopReports(tmp_path)
    reports.create(loop_spec("under-way"))
    kept(reports, loop_report("faq-1"))
    kept(reports, loop_report("faq-2", start_us=3_000_000))
    kept(reports, loop_report("web-1", collection="web", start_us=2_000_000))
    assert [one.name for one in reports.list_newest()] == ["faq-2", "web-1", "faq-1"]
    assert [one.name for one in reports.list_newest("web")] == ["web-1"]
    assert reports.get("faq-1") == loop_report("faq-1")
    assert reports.read_page("faq-1") == "<html>"
    for name in ("under-way", "nothing", "../faq-1", ""):
        with pytest.raises(NotFoundError):
            reports.get(name)


def test_what_the_last_server_left_has_failed(tmp_path: Path) -> None:
    reports = LoopReports(tmp_path)
    reports.create(loop_spec("under-way"))
    broken = reports.create(loop_spec("broken"))
    (broken / "spec.json").write_text("{")
    reports.fail_unfinished()
    (report,) = reports.list_newest()
    assert (report.name, report.outcome, report.reason) == ("under-way", "FAILED", UnavailableError.reason)
    assert report.advice
    assert reports.read_page("under-way") == ""
    assert not broken.exists()


@pytest.mark.parametrize(
    ("start_us", "end_us", "goes"),
    [(None, None, True), (901, None, False), (900, None, True), (None, 100, False), (None, 101, True)],
)
def test_a_report_goes_with_feedback_of_its_time(
    tmp_path: Path, start_us: int | None, end_us: int | None, goes: bool
) -> None:
    reports = LoopReports(tmp_path)
    folder = kept(reports, loop_report("faq-1"))
    kept(reports, loop_report("other", collection_key=2))
    kept(reports, loop_report("quotes-nothing", feedback_start_us=None, feedback_end_us=None))
    assert reports.purge(1, start_us, end_us) == ["faq-1"] * goes
    assert folder.exists() is not goes
    assert {"other", "quotes-nothing"} <= {one.name for one in reports.list_newest()}


def test_all_of_a_collection_goes_with_it(tmp_path: Path) -> None:
    reports = LoopReports(tmp_path)
    kept(reports, loop_report("faq-1"))
    kept(reports, loop_report("other", collection_key=2))
    place = LoopPlace(until_us=5, unfinished=Unfinished(until_us=9, mining_set="set"))
    for key in (1, 3):
        reports.set_place(key, place)
    assert reports.read_place(1) == place
    assert reports.list_keys() == {1, 2, 3}
    reports.remove_by_collection({1, 3})
    assert reports.list_keys() == {2}
    assert reports.read_place(1) == LoopPlace()


def test_a_report_without_a_name_takes_its_own_folder_and_no_other(tmp_path: Path) -> None:
    reports = LoopReports(tmp_path)
    kept(reports, loop_report("other", collection_key=2))
    folder = kept(reports, loop_report("faq-1"))
    write_model(folder / REPORT, loop_report(""))  # as a turn that found too little leaves it for a moment
    reports.remove_by_collection({1})
    assert not folder.exists()
    assert [one.name for one in reports.list_newest()] == ["other"]


def test_a_place_that_cannot_be_read_is_the_beginning(tmp_path: Path) -> None:
    reports = LoopReports(tmp_path)
    reports.set_place(1, LoopPlace(until_us=5))
    (tmp_path / "loops" / ".places" / "1.json").write_text("{")
    assert reports.read_place(1) == LoopPlace()
