"""The report of a turn as a page: what it holds for every outcome, and that no text of it becomes markup."""

import re
from html.parser import HTMLParser
from typing import get_args

import pytest
from tests.unit.training.loops import loop_report
from tests.unit.training.samples import metric

from quarry.training.loop_spec import (
    LoopOutcome,
    MinedInShort,
    QueryChange,
    RankChange,
    VerdictEvidence,
    VersionInShort,
)
from quarry_trainer.loop.loop_page import describe_outcome, render_page

HOSTILE = '<script>alert("x")</script>&$\\frac'


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
        assert describe_outcome(report).endswith(".")
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
    assert told in describe_outcome(loop_report(outcome="NOT_BETTER", model_verdict=verdict))


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
