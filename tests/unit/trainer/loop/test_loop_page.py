"""The report of a turn as a page: what it holds for every outcome, and that no text of it becomes markup."""

import re
from html.parser import HTMLParser
from typing import get_args

import pytest
from tests.unit.training.loops import loop_report
from tests.unit.training.samples import metric

from quarry.training.loop_outcomes import describe_next_command, describe_outcome
from quarry.training.loop_spec import (
    LoopOutcome,
    LoopReport,
    MinedInShort,
    QueryChange,
    RankChange,
    VerdictEvidence,
    VersionInShort,
)
from quarry.training.spec import OffPolicyEstimate
from quarry_trainer.loop.loop_page import list_metric_rows, render_page

HOSTILE = '<script>alert("x")</script>&$\\frac'


def describe(report: LoopReport) -> str:
    return describe_outcome(report.outcome, report.model, report.compared_with, report.model_verdict or "")


def version(number: int, value: float = 0.1) -> VersionInShort:
    found = (metric("candidate", 0.5), metric("difference", value))
    return VersionInShort(
        name=f"faq@{number}", create_time_us=number, state="SERVING", verdict="IMPROVED", metrics=found
    )


class Checked(HTMLParser):
    """Fails on what would run or fetch, and on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "link", "img")
        assert not any(name in ("src", "onload", "onclick") for name, _ in attributes)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass


def test_it_says_what_came_of_the_turn_and_what_to_do() -> None:
    page = render_page(
        loop_report(
            versions=tuple(version(number) for number in (1, 2)),
            evidence=VerdictEvidence(source="judgments", queries=40, level=0.95),
            simulated=True,
        )
    )
    for told in (
        "faq@2 is better than faq@1, and serves now.", "do this", "1,234 choices were new", "nDCG@10",
        "+0.100", "+0.050 to +0.150", "lost password", "asked 7 times", "A title", "faq-set", "280 rows",
        "A program made the feedback", "95.0 %", "<svg", "of 1 of the 20 queries",
    ):  # fmt: skip
        assert told in page, told
    assert page.count("<svg") == 2


@pytest.mark.parametrize("outcome", get_args(LoopOutcome))
def test_every_outcome_has_a_sentence_and_a_page(outcome: LoopOutcome) -> None:
    bare = loop_report(
        outcome=outcome, mining=None, metrics=(), changes=(), queries_compared=0, advice=(), model=""
    )
    for report in (bare, loop_report(outcome=outcome, compared_with="")):
        assert describe(report).endswith(".")
        assert re.search("`quarry .*faq.*`", describe_next_command(outcome, "faq", "faq@2"))
        assert f"<strong>{outcome}</strong> {describe(report)}" in render_page(report)
        checked = Checked()
        checked.feed(render_page(report))
        assert not checked.open


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("REGRESSED", "is worse"),
        ("INSUFFICIENT_DATA", "Nobody can tell"),
        ("NO_IMPROVEMENT", "not proven better"),
    ],
)
def test_what_is_not_better_is_told_apart(verdict: str, told: str) -> None:
    assert told in describe(loop_report(outcome="NOT_BETTER", model_verdict=verdict))


WIDE = {"evidence": VerdictEvidence(
    source="clicks", queries=40,
    off_policy=tuple(
        OffPolicyEstimate(
            estimator=estimator, subject=subject, value=0.5, lower=0.4, upper=0.6, effective_sample_size=9.0,
            support=0.5,
        )
        for estimator in ("snips", "doubly_robust") for subject in ("candidate", "serving", "difference")
    ),
)}  # fmt: skip


def test_a_row_of_a_wide_table_can_be_read_without_its_heading_on_a_narrow_screen() -> None:
    page = render_page(loop_report(**WIDE))
    tables = re.findall(r"(?s)<table(.*?)>(.*?)</table>", page)
    wide = [body for attributes, body in tables if len(re.findall("<th[ >]", body)) > 3]
    assert len(wide) == 2
    for attributes, body in tables:
        if body in wide:
            assert 'class="wide"' in attributes
            headings = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", body)
            for row in re.findall(r"(?s)<tr>(<td.*?)</tr>", body):
                assert re.findall(r'<td[^>]*data-label="([^"]*)"', row) == headings
                assert row.count("<td") == len(headings)
    style = re.search(r"(?s)@media \(max-width: 30rem\) \{(.*?)\n\}", page)
    assert style is not None, "30rem are 480 px"
    assert "table.wide thead { display: none; }" in style[1]
    assert "content: attr(data-label)" in style[1]
    assert "white-space: normal" in style[1]


def test_what_to_type_is_set_apart_and_only_that_is_code() -> None:
    page = render_page(
        loop_report(advice=("`quarry model promote faq@2` makes it <b>serve</b>", "a ` alone"))
    )
    assert "<li><code>quarry model promote faq@2</code> makes it &lt;b&gt;serve&lt;/b&gt;</li>" in page
    assert "<li>a ` alone</li>" in page


def test_a_slice_that_holds_all_queries_is_left_out_because_it_repeats_them() -> None:
    known = metric("difference", 0.1).model_copy(update={"slice": "known"})
    unseen = metric("difference", 0.3).model_copy(update={"slice": "unseen", "queries": known.queries - 1})
    rows = list_metric_rows([metric("difference", 0.1), known, unseen])
    assert [slice for slice, _, _ in rows] == ["all", "unseen"]


def test_what_a_program_made_is_said_once() -> None:
    versions = tuple(version(number).model_copy(update={"simulated": True}) for number in (1, 2))
    page = render_page(loop_report(versions=versions, simulated=True, evidence=VerdictEvidence(queries=4)))
    assert page.count("A program made the feedback") == 1
    assert "simulated users" not in page
    assert "a program, wholly" not in page
    mixed = (versions[0], version(2))
    assert render_page(loop_report(versions=mixed, simulated=True)).count("(simulated users)") == 1


def test_texts_of_users_are_escaped_wherever_they_stand() -> None:
    moved = RankChange(document_id=HOSTILE, title=HOSTILE, rank_before=0, rank_after=1)
    page = render_page(
        loop_report(
            collection=HOSTILE,
            advice=(HOSTILE,),
            changes=(QueryChange(query=HOSTILE, times_asked=1, documents=(moved,)),),
            mining=MinedInShort(name=HOSTILE, verdict="GOOD", advice=(HOSTILE,)),
            versions=(version(1).model_copy(update={"name": HOSTILE}),),
            compared_with=HOSTILE,
        )
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    checked = Checked()
    checked.feed(page)
    assert not checked.open


def test_the_same_report_gives_the_same_page_and_needs_nothing_from_elsewhere() -> None:
    report = loop_report(versions=(version(1), version(2, -0.2)))
    page = render_page(report)
    assert page == render_page(report)
    addresses = re.findall(r"https?://[^\"' ]+", page)
    assert all(re.match(r"https?://(www\.w3\.org|purl\.org|creativecommons\.org)/", one) for one in addresses)


def test_the_next_command_after_no_gain_is_for_later_because_it_does_not_wait():
    said = describe_next_command("NOT_BETTER", "faq", "faq@2")
    assert said == "when more feedback has come, type `quarry loop faq --once`"
