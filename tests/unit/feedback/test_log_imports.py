"""Imported logs: what is right arrives once, what is wrong is named with its line."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.feedback.samples import KEY

from quarry.errors import LimitExceededError
from quarry.feedback.importing import quarry_lines, ubi
from quarry.feedback.importing.json_fields import LineError
from quarry.feedback.importing.log_imports import _BATCHES, LogFormat, LogImportPlan, Tally, import_file
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog
from quarry.feedback.reading.observed_pages import read_observed_pages, read_texts
from quarry.feedback.types import ObservedPage
from quarry.types import Docno, Document

UBI_SAMPLE = Path(__file__).parents[4] / "shared/data/ubi-esci-sample/ubi_queries_events.ndjson.gz"
IMPRESSION: dict[str, Any] = {
    "search_id": "s1",
    "time": "2026-01-31T12:00:00Z",
    "query": "red shoes",
    "user_id": "u",
    "hits": [{"id": "a", "score": 1.5, "arms": {"bm25": {"rank": 1, "score": 7.5}}}, {"id": "b"}],
}
CLICK: dict[str, Any] = {
    "event_id": "e1",
    "type": "click",
    "search_id": "s1",
    "time": "2026-01-31T12:00:09Z",
    "document_id": "b",
}
SEEN = {name: value for name, value in CLICK.items() if name != "document_id"} | {"type": "rendered"}


def imported(
    folder: Path, lines: list[Any], form: LogFormat = LogFormat.QUARRY, simulated: bool = False
) -> tuple[Tally, list[ObservedPage]]:
    """Imports lines, given as text or as JSON values, into the log of ``folder``."""
    file = folder / "spooled"
    file.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    documents = {"b": Document(Docno(1), "b", {"text": "berries"}, 4, 0)}

    async def run() -> Tally:
        log = await FeedbackLog.open(folder / "feedback.db")
        plan = LogImportPlan(
            file,
            form,
            KEY,
            simulated,
            lambda ids: {id: documents[id] for id in ids if id in documents},
            lambda fields: str(fields["text"]),
        )

        async def unheard(_: Tally) -> None:
            pass

        try:
            return await import_file(log, ImpressionLog(log), plan, unheard)
        finally:
            await log.close()

    tally = asyncio.run(run())
    assert not file.with_name("spooled.staged").exists()
    return tally, list(read_observed_pages(folder / "feedback.db", KEY))


def counts(tally: Tally) -> tuple[int, int, int, int, int]:
    return tally.lines, tally.impressions, tally.events, tally.duplicates, tally.rejected


def test_quarrys_own_lines_become_pages(tmp_path: Path) -> None:
    tally, (page,) = imported(tmp_path, [{"event": CLICK}, {"impression": IMPRESSION}])
    assert counts(tally) == (2, 1, 1, 0, 0)
    assert (page.query, page.user_id, page.documents) == ("red shoes", "u", ("a", "b"))
    assert (page.clicked, page.simulated) == ((False, True), False)
    assert page.contents[0] == ""
    assert read_texts(tmp_path / "feedback.db", page.contents) == {page.contents[1]: "berries"}


def test_importing_twice_adds_nothing(tmp_path: Path) -> None:
    lines = [{"event": CLICK}, {"impression": IMPRESSION}, {"event": CLICK}]
    first, pages = imported(tmp_path, lines)
    second, again = imported(tmp_path, lines)
    assert counts(first) == (3, 1, 1, 1, 0)
    assert counts(second) == (3, 0, 0, 3, 0)
    assert pages == again


def test_a_simulated_log_says_so(tmp_path: Path) -> None:
    _, (page,) = imported(tmp_path, [{"impression": IMPRESSION}], simulated=True)
    assert page.simulated


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "is not JSON"),
        ("[]", "is neither"),
        ({"impression": IMPRESSION, "event": CLICK}, "is neither"),
        ({"impression": {**IMPRESSION, "colour": 1}}, "impression.colour is not a known field"),
        ({"impression": {**IMPRESSION, "time": "noon"}}, "impression.time is not a time"),
        ({"impression": {**IMPRESSION, "search_id": ""}}, "impression.search_id is empty"),
        ({"impression": {**IMPRESSION, "hits": [{"id": "a"}, {"id": "a"}]}}, "has a document twice"),
        ({"impression": {**IMPRESSION, "hits": [{"id": "a", "rank": 0}]}}, "impression.hits[0].rank"),
        ({"impression": {**IMPRESSION, "hits": [{"id": "a", "rank": 1_001}]}}, "impression.hits[0].rank"),
        (
            {"impression": {**IMPRESSION, "hits": [{"id": "a", "rank_before": 1_001}]}},
            "impression.hits[0].rank_before",
        ),
        (
            {"event": {**SEEN, "rendered": [{"id": "a", "position": 1_001}]}},
            "event.rendered[0].position is not an integer from 0 to 1000",
        ),
        ({"impression": {**IMPRESSION, "query": "x" * 8_193}}, "impression.query has 8193 bytes"),
        ({"event": {**CLICK, "type": "stare"}}, "event.type 'stare' is none of"),
        ({"event": {**CLICK, "document_id": ""}}, "event.document_id is empty"),
        ({"event": {**CLICK, "value": 1}}, "event.value does not belong to click"),
        ({"event": {**CLICK, "type": "rating"}}, "event.value is missing"),
        ({"event": {**CLICK, "type": "rating", "value": 2}}, "event.value is not a number from 0 to 1"),
        ({"event": {**CLICK, "time": "1999-12-31T00:00:00Z"}}, "event.time is not a time"),
        ({"event": {**CLICK, "user_id": "a\u0000"}}, "event.user_id holds a control character"),
        ({"event": {**CLICK, "event_id": "x" * 65}}, "event.event_id has 65 bytes"),
    ],
)
def test_a_bad_line_is_named_and_the_others_arrive(tmp_path: Path, line: Any, reason: str) -> None:
    tally, pages = imported(tmp_path, [{"impression": IMPRESSION}, "", line, {"event": CLICK}])
    assert counts(tally) == (4, 1, 1, 0, 1)
    ((number, found),) = tally.rejections
    assert number == 3
    assert reason in found
    assert len(pages) == 1


def test_of_many_bad_lines_the_first_thousand_are_told(tmp_path: Path) -> None:
    tally, _ = imported(tmp_path, ["x"] * 1_500)
    assert (tally.rejected, len(tally.rejections)) == (1_500, 1_000)
    assert tally.rejections[-1][0] == 1_000


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["impression", "event"]), st.data())
def test_any_value_in_any_field_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    base = IMPRESSION if kind == "impression" else CLICK
    names = [*base, "offset", "attributes", "pool", "rendered", "value", "dwell_s", "degraded", "simulated"]
    changed = {**base, data.draw(st.sampled_from(names)): data.draw(json_values)}
    try:
        line = json.dumps({kind: changed}).encode()
        quarry_lines.parse_line(line, 0)
    except LineError:
        pass


# UBI


def query(id: str = "q1", **values: Any) -> dict[str, Any]:
    return {
        "query_id": id, "user_query": "shoes", "client_id": "c", "application": "shop",
        "timestamp": "2025-01-01T10:00:00.000Z", **values,
    }  # fmt: skip


def action(name: str, object_id: Any = None, ordinal: Any = None, id: str = "q1", **values: Any) -> Any:
    attributes: dict[str, Any] = {} if ordinal is None else {"position": {"ordinal": ordinal}}
    if object_id is not None:
        attributes["object"] = {"object_id": object_id}
    return {
        "query_id": id, "action_name": name, "client_id": "c", "session_id": "v", "application": "shop",
        "timestamp": "2025-01-01T10:00:20Z", "event_attributes": attributes, **values,
    }  # fmt: skip


def test_a_ubi_query_shows_its_hit_ids(tmp_path: Path) -> None:
    lines = [
        {"index": {"_index": "ubi_events"}},
        action("click", "b", 2),
        {"index": {"_index": "ubi_queries"}},
        query(query_response_hit_ids=["a", "b", 3]),
        action("purchase", 3, 3, timestamp=1_735_725_630_000),
        action("page_exit"),
    ]
    tally, (page,) = imported(tmp_path, lines, LogFormat.UBI)
    assert counts(tally) == (6, 1, 3, 0, 0)
    assert (page.query, page.user_id, page.session_id) == ("shoes", "c", "v")
    assert (page.documents, page.clicked) == (("a", "b", "3"), (False, True, True))
    assert not page.rendered


@pytest.mark.parametrize("base", [0, 1])
def test_a_ubi_query_without_hit_ids_shows_what_its_impressions_name(tmp_path: Path, base: int) -> None:
    seen = [action("impression", name, base + n) for n, name in enumerate("abc")]
    _, (page,) = imported(tmp_path, [*reversed(seen), query(), action("click", "c", base + 2)], LogFormat.UBI)
    assert (page.documents, page.ranks) == (("a", "b", "c"), (1, 2, 3))
    assert (page.rendered, page.displayed) == (True, (True, True, True))
    assert page.clicked == (False, False, True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (query(""), "query_id is missing"),
        (query(), "neither query_response_hit_ids nor impression events"),
        (action("click"), "click has no event_attributes.object.object_id"),
        (action("click", "a", id=""), "query_id is missing"),
        (action("click", "a", timestamp="soon"), "timestamp is not a time"),
        (action("click", [1]), "an object's id is neither"),
        ({"a": 1}, "is neither a query"),
    ],
)
def test_a_bad_ubi_record_is_named(tmp_path: Path, line: Any, reason: str) -> None:
    tally, _ = imported(tmp_path, [line], LogFormat.UBI)
    ((number, found),) = tally.rejections
    assert (number, tally.rejected) == (1, 1)
    assert reason in found


def test_the_same_ubi_record_is_the_same_event(tmp_path: Path) -> None:
    lines = [query(query_response_hit_ids=["a"]), action("click", "a"), action("click", "a")]
    first, _ = imported(tmp_path, lines, LogFormat.UBI)
    second, _ = imported(tmp_path, lines, LogFormat.UBI)
    assert (counts(first), counts(second)) == ((3, 1, 1, 1, 0), (3, 0, 0, 3, 0))


@given(st.dictionaries(st.sampled_from([*query(), *action("click", "a")]), json_values))
def test_any_ubi_record_is_read_or_refused(changes: dict[str, Any]) -> None:
    for record in (query(query_response_hit_ids=["a"]), action("click", "a")):
        with contextlib.suppress(LineError):
            ubi.read_record(json.dumps({**record, **changes}).encode())


def test_the_public_sample_is_read(tmp_path: Path) -> None:
    if not UBI_SAMPLE.exists():
        pytest.skip("the UBI sample is not on this machine")
    import gzip

    lines = gzip.decompress(UBI_SAMPLE.read_bytes()).decode().splitlines()
    tally, pages = imported(tmp_path, lines, LogFormat.UBI)
    records = (tally.lines - 3_921, tally.impressions + tally.events + tally.duplicates + tally.rejected)
    assert records == (3_921, 3_921)
    assert tally.rejected < 300
    assert sum(any(page.clicked) for page in pages) > 50
    assert imported(tmp_path, lines, LogFormat.UBI)[0].impressions == 0


DEEP = [b'{"a":' * levels + b"1" + b"}" * levels for levels in (300, 900, 100_000)]


@pytest.mark.parametrize("deep", DEEP)
def test_lines_that_are_nested_deeply_are_refused(tmp_path: Path, deep: bytes) -> None:
    record = json.dumps(action("click", "a"))
    lines = [f'{record[:-1]}, "more": {deep.decode()}}}', record]
    for form in LogFormat:
        tally, _ = imported(tmp_path, lines, form)
        assert tally.rejected == (2 if form is LogFormat.QUARRY else 1)
        assert all(len(reason) < 200 for _, reason in tally.rejections)


def test_a_query_with_too_many_records_keeps_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry.feedback.importing.log_imports.MAX_QUERY_RECORDS", 3)
    hits = {"query_response_hit_ids": ["d0", "d1"]}
    lines = [query(**hits), *(action("click", f"d{n}") for n in range(2_000)), query("another", **hits)]
    tally, pages = imported(tmp_path, lines, LogFormat.UBI)
    assert (tally.events, tally.impressions, tally.rejected) == (2, 2, 1_998)
    assert tally.rejections[0] == (4, "the query has over 3 records")
    assert len(pages) == 2


def test_a_log_of_too_many_applications_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarry.feedback.importing.staging.MAX_APPLICATIONS", 2)
    lines = [action("click", "a", ordinal=1) | {"application": f"app{n}"} for n in range(3)]
    with pytest.raises(LimitExceededError, match="over 2 applications"):
        imported(tmp_path, lines, LogFormat.UBI)
    assert not list(tmp_path.glob("*.staged"))


@pytest.mark.parametrize("form", list(LogFormat))
@pytest.mark.parametrize("line", ["", "x", "y" * 5_000])
def test_a_file_of_nothing_does_not_keep_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: LogFormat, line: str
) -> None:
    """Whoever reads it hears of each piece, and can stop there: cancelling it holds no thread for long."""
    monkeypatch.setattr("quarry.feedback.importing.log_imports.BATCH_BYTES", 1_000)
    monkeypatch.setattr("quarry.feedback.importing.log_imports.MAX_LINE_BYTES", 100)
    file = tmp_path / "spooled"
    file.write_text(f"{line}\n" * 3_000)
    plan = LogImportPlan(file, form, KEY, False, lambda _: {}, lambda _: "")
    batches = _BATCHES[form](plan, Tally())
    assert sum(1 for _ in batches) >= file.stat().st_size // 1_100


def test_a_batch_has_a_bounded_number_of_hits(tmp_path: Path) -> None:
    hits = [{"id": f"d{n}"} for n in range(1_000)]
    lines = [{"impression": IMPRESSION | {"search_id": f"s{n}", "hits": hits}} for n in range(120)]
    file = tmp_path / "spooled"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = LogImportPlan(file, LogFormat.QUARRY, KEY, False, lambda _: {}, lambda _: "")
    assert [len(batch) for batch in _BATCHES[LogFormat.QUARRY](plan, Tally())] == [50, 50, 20]
