"""The first use of a term on a page, and in a report, links to the glossary."""

import re
from pathlib import Path
from typing import get_args

import pytest

from quarry.glossary import TERMS
from quarry.mining.spec import Verdict
from quarry.training.spec import ModelVerdict

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
GLOSSARY = DOCS / "reference" / "glossary.md"
REPORTS = (
    ROOT / "miner/quarry_miner/templates/report.html",
    ROOT / "trainer/quarry_trainer/templates/loop.html",
)
MADE_FROM_CODE = {"cli.md", "configuration.md", "api.md", "errors.md", "limits.md", "mining-presets.md"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page != GLOSSARY and page.name not in MADE_FROM_CODE and page.parent.name != "decisions"
]
FORMS = {
    "arm": "(two|both|each|an|which|the|other) arms?",
    "blend": "(the|its|a|own|best) blends?",
    "candidate": "(fused|best|the|a) candidates?",
    "event": "feedback events?|(an|the) event|events? (that|of)",
    "gate": "the gate",
    "judged query": "judged quer(y|ies)",
    "known and unseen": "unseen (documents?|queries|questions)",
    "member": "members? (that|are|propose|take)",
    "positive": "(the|a|its|hidden|known|wrong) positives?",
    "simulated": "simulated (users|clicks)",
    "states": "states of (passages|tokens|a split)|passage states",
    "version": "a version",
}
"""How pages write the terms that everyday words look like, and those with a plural of their own."""


ANCHORS = {name: re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in TERMS}
"""The heading of each term, as a link names it."""


def find_term(name: str, text: str) -> re.Match[str] | None:
    form = FORMS.get(name, rf"{re.escape(name)}(s|es)?")
    return re.search(rf"(?<![\w@/-])({form})(?![\w@_-])", text, re.IGNORECASE)


def blank_all_but_prose(page: str) -> str:
    """The page with code, headings, tables and links blanked, so that places stay the same."""
    for pattern in (r"(?s)```.*?```", r"(?m)^(#|\||    ).*$", r"(?s)!?\[[^]]*\]\([^)]*\)", r"(?s)`[^`]*`"):
        page = re.sub(pattern, lambda found: re.sub(r"[^\n]", "\0", found[0]), page)
    return page


@pytest.mark.parametrize("verdict", [*get_args(Verdict), *get_args(ModelVerdict)])
def test_the_glossary_names_each_verdict(verdict: str) -> None:
    assert f"`{verdict}`" in TERMS["verdict"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_term_of_a_page_links_to_the_glossary(page: Path) -> None:
    text = page.read_text()
    prose = blank_all_but_prose(text)
    lacking = [
        name
        for name, anchor in ANCHORS.items()
        if find_term(name, prose) and f"glossary.md#{anchor})" not in text
    ]
    assert not lacking


def test_the_glossary_has_some_forty_terms_in_order() -> None:
    terms = [name.lower() for name in TERMS]
    assert 35 <= len(terms) <= 50
    assert terms == sorted(terms)


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.name)
def test_the_terms_of_a_report_are_explained_at_its_end(report: Path) -> None:
    page = report.read_text()
    linked = set(re.findall(r"term\('([^']+)'", page))
    (listed,) = re.findall(r"words\(\[(.*?)\]\)", page)
    assert len(linked) >= 5
    assert linked == set(re.findall(r"'([^']+)'", listed)) <= set(TERMS)
