"""Pages are short where they promise it, and name files, tables, pages and settings that exist."""

import re
from pathlib import Path

import pytest

from quarry.documents.tables import metadata as documents
from quarry.feedback.tables import metadata as feedback

ROOT = Path(__file__).resolve().parents[3]
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
MADE_FROM_CODE = {"cli.md", "configuration.md", "api.md", "errors.md", "limits.md", "mining-presets.md"}
PAGES = [README, ARCHITECTURE, *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [page for page in PAGES if page.name not in MADE_FROM_CODE]
CODE = (
    "core",
    "server",
    "miner",
    "trainer",
    "cli",
    "benchmarks",
    "tools",
    "tests",
    "protos/quarry",
    "Makefile",
)


def read_code() -> dict[Path, str]:
    files = [
        file
        for name in CODE
        for file in ([ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")))
        if file.suffix in (".py", ".proto", ".html", "") and file.is_file() and "_pb2" not in file.name
    ]
    return {file: file.read_text() for file in files}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(("page", "most"), [(README, 1_200), (ARCHITECTURE, 3_000)], ids=["README", "ARCH"])
def test_a_page_for_everybody_stays_short(page: Path, most: int) -> None:
    assert len(page.read_text().split()) <= most


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_a_paragraph_has_at_most_five_sentences(page: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", page.read_text())
    paragraphs = re.split(r"\n\s*\n|\n(?=[-|#] |\d+\. )", text)
    long = [
        paragraph[:80]
        for paragraph in paragraphs
        if not paragraph.lstrip().startswith("|") and count_sentences(paragraph) > 5
    ]
    assert not long


def count_sentences(paragraph: str) -> int:
    """How many sentences end in the paragraph; brackets, code and a label in bold do not count."""
    bare = re.sub(
        r"`[^`]*`|\([^()]*\)|\bet al\.", "x", re.sub(r"^(\d+\.|-)? ?(\*\*[^*]+\.\*\*)?", "", paragraph)
    )
    return len(re.findall(r"[.!?](?=\*{0,2}(\s|$))", bare))


def test_the_files_that_the_architecture_names_exist() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", ARCHITECTURE.read_text()))
    files = [str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py")]
    assert len(named) > 40
    assert [
        name for name in sorted(named) if not any(f"/{file}".endswith(f"/{name}") for file in files)
    ] == []


def test_each_step_of_the_walks_says_which_file_it_means() -> None:
    """Several folders have a `service.py`: a name is a path, or the name of a file beside the last path."""
    page = ARCHITECTURE.read_text()
    walks = page[page.index("## A search") : page.index("## The data model")]
    steps = [re.findall(r"`([\w/]+\.py)`", step) for step in re.split(r"\n(?=\S)", walks)]
    assert sum(map(len, steps)) > 80
    unclear = []
    for names in steps:
        folder = Path("nowhere")
        for name in names:
            file = ROOT / name if "/" in name else ROOT / folder / name
            folder = file.parent
            if not file.is_file():
                unclear.append(name)
    assert unclear == []


def test_the_data_model_names_every_table() -> None:
    page = ARCHITECTURE.read_text()
    rows = "\n".join(line for line in page[page.index("## The data model") :].splitlines() if line[:1] == "|")
    tables = {*documents.tables, *feedback.tables}
    assert len(tables) > 10
    assert [name for name in sorted(tables) if f"`{name}`" not in rows] == []


def test_the_pages_that_the_code_names_exist() -> None:
    named = {
        (page, file.name)
        for file, text in read_code().items()
        for page in re.findall(r"(?<![\w/.])docs/[\w/-]+\.(?:md|svg)", text)
    }
    assert len(named) > 20
    assert [pair for pair in sorted(named) if not (ROOT / pair[0]).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", page.read_text())
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text)
    assert [(file, heading) for file, heading in links if not leads_somewhere(page, file, heading)] == []


def leads_somewhere(page: Path, file: str, heading: str) -> bool:
    target = page.parent / file if file else page
    return target.exists() and (not heading or heading in list_headings(target))


def list_headings(page: Path) -> set[str]:
    """Returns the page's headings as links name them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?s)```.*?```", "", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
