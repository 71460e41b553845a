"""The how-to pages run as a reader would paste them, one block after the other, in the order of the site.

Commands that take too long here stand in ``NOT_RUN`` with the reason. Their options are still checked, by
tests/unit/cli/test_readme.py, as are those of all commands on all pages.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
PORT, TLS_PORT = "50051", "50443"
NOT_RUN = {
    r"quarry train ": "a training takes minutes; test_loop_over_grpc.py trains",
    r"quarry loop ": "a turn trains; tests/integration/api/learning runs turns",
    r"quarry tune ": "a tuning asks thousands of questions; tests/integration/api/learning tunes",
    r"quarry .*faq@\d": "it needs a version that a training made",
    r"quarry .*faq/ranking@\d": "it needs a configuration that a tuning made",
    r"quarry model (rollback|rankings) ": "it needs what the lines before it made",
    r"quarry search .*--min-relevance": "it needs a version that has a calibration",
    r"quarry collection update faq --(cascade|reranker) \"\"": "it takes back what was not made here",
    r"quarry mine .*--qrels": "1,174 judged queries take minutes; test_loop_over_grpc.py mines judgments",
    r"quarry mine .*--preset perc-pos": "a second mining takes a minute; the first one runs",
    r"quarry feedback evaluate ": "it fits six models to many splits, which takes minutes",
    r"pip install ": "nothing is published yet, and the environment of the tests has the package",
    r"quarry evaluate faq --queries queries": "1,174 queries take minutes; test_quickstart.py evaluates 250",
}
"""Patterns of commands, each with the reason why this test leaves them out."""


def list_pages() -> list[Path]:
    """Lists the how-to pages in the order of the site."""
    names = re.findall(r"how-to/([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert sorted(names) == sorted(page.name for page in HOW_TO.glob("*.md"))
    return [HOW_TO / name for name in names]


def read_blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yields language and text of the page's blocks; Python blocks that follow each other are one."""
    found = re.findall(r"```(console|python)\n(.*?)```", page.read_text(), re.DOTALL)
    for language, blocks in groupby(found, key=lambda block: block[0]):
        yield language, "".join(text for _, text in blocks)


def leave_out(script: str) -> str:
    """Replaces commands of ``NOT_RUN`` by a comment."""
    return "".join(f"# {line}\n" if is_left_out(line) else f"{line}\n" for line in script.splitlines())


def is_left_out(line: str) -> bool:
    return any(re.match(pattern, line) for pattern in NOT_RUN)


def write_session(folder: Path) -> str:
    """Writes the Python blocks into ``folder`` and returns the shell session that runs all pages."""
    parts = ["trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"]  # a failed command ends the server, too
    for page in list_pages():
        parts.append(f"echo '--- {page.name}'\n")
        for number, (language, text) in enumerate(read_blocks(page)):
            if language == "console":
                parts.append(leave_out(text))
                continue
            program = folder / f"{page.stem}-{number}.py"
            program.write_text(text)
            parts.append(f"python {program.name}\n")
    return "".join(parts)


def find_free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.timeout(1_800)
def test_the_how_to_pages_run_as_they_are_written(tmp_path: Path) -> None:
    port, tls_port = find_free_port(), find_free_port()

    def put_ports(text: str) -> str:
        return text.replace(PORT, port).replace(TLS_PORT, tls_port)

    session = put_ports(write_session(tmp_path))
    for program in tmp_path.glob("*.py"):
        program.write_text(put_ports(program.read_text()))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "QUARRY_SERVER": f"127.0.0.1:{port}",
    }
    said_file = tmp_path / "said"
    with said_file.open("w") as said:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", session],
            cwd=tmp_path,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=1_700,
        )
    server_log = r"^\d{4}-\d\d-\d\d .*\n"
    said_text = re.sub(server_log, "", said_file.read_text(), flags=re.MULTILINE)
    assert ended.returncode == 0, said_text[-4_000:]
    said_by = dict(re.findall(r"^--- (\S+)\n(.*?)(?=^--- |\Z)", said_text, re.DOTALL | re.MULTILINE))
    assert "719 documents searchable in faq" in said_by["index.md"]
    printed = [
        "INVALID_ARGUMENT VALUE_OUT_OF_RANGE page_size",
        "2",
        "1",
        *("books", "faq", "library", "parts", "spares"),  # the page on files has made three of them
        "True",
        "['0', '1']",
    ]
    assert said_by["call-from-python.md"].splitlines() == printed
    shown = re.findall(r"^ *1 .*\d  (\w) *$", said_by["filter.md"], re.MULTILINE)
    assert shown == ["a", "b", "a", "b"], said_by["filter.md"]
    assert "warning: 2 documents have no text in a field that is searched" in said_by["warnings.md"]
    assert "1 document changed in laws, of 1 that meet the condition" in said_by["change-documents.md"]
    assert "1 deleted from laws" in said_by["change-documents.md"]
    assert "lawbook names laws-next (before: laws)" in said_by["alias.md"]
    shown = re.findall(r"^ *1 (.+?)  ", said_by["query-syntax.md"], re.MULTILINE)
    assert shown[1:] == ["Cold brew", "Espresso", "Espresso"], said_by["query-syntax.md"]
    assert re.findall(r"^b |^a ", said_by["query-syntax.md"], re.MULTILINE), said_by["query-syntax.md"]
    assert re.findall(r"^no hits|^ *1 Espresso", said_by["typos.md"], re.MULTILINE) == [
        "no hits",
        "  1 Espresso",
    ]
    shown = re.findall(r"^ *\d .*\d  (\w) *$", said_by["synonyms.md"], re.MULTILINE)
    assert shown == ["b", "a", "c", "a", "b"], said_by["synonyms.md"]
    assert "\ncoffee, espresso, cold brew\ninfusion, cuppa => green tea\n" in said_by["synonyms.md"]
    paged = said_by["page.md"]
    assert re.search(r"^\d+ match a word, \d+ were found by meaning alone$", paged, re.MULTILINE), paged
    assert "\nTrue " in paged, paged
    assert paged.endswith("719 documents\n"), paged
    measured = said_by["evaluate.md"]
    assert measured.count("2 queries; interval by bootstrap") == 3, measured
    assert '"judged_at_10"' in measured
    assert "both.run; 2 judged queries, paired bootstrap over queries" in measured
    assert "2 queries in quepid.jsonl, 3 judgments in quepid.tsv" in said_by["import-judgments.md"]
    assert "1 query in ubi.jsonl, 2 judgments in ubi.tsv, 1 of them" in said_by["import-judgments.md"]
    assert re.search(r"^ *1 .+  t001-a0  pinned *$", said_by["pin.md"], re.MULTILINE)
    assert "not pinned: discontinued: not found" in said_by["pin.md"]
    assert "[('t001-a0', True)," in said_by["pin.md"]
    assert said_by["collapse.md"].count("  r1  and 1 alike") == 2
    assert said_by["collapse.md"].count("also Rivers, chapter 2") == 1
    shown = re.findall(r"^ *1 .+\d  (\w+) *$", said_by["boost.md"], re.MULTILINE)
    assert shown[:2] == ["r2", "l1"], said_by["boost.md"]
    assert "boost 1: strength 1.00, effect 1.5000" in said_by["boost.md"]
    assert "t000-a" in said_by["similar.md"]
    assert "t000-a0" not in said_by["similar.md"]
    suggested = said_by["suggest.md"]
    assert "How do I delete my Facebook account?  " in suggested, suggested
    assert re.search(r"^SUGGESTION_KIND_\w+ .* \['delete', 'my', 'acc'\] \d", suggested, re.MULTILINE), (
        suggested
    )
    assert re.search(r"^Travel expenses  1 document  1$", suggested, re.MULTILINE), suggested
    assert "Travel ban" not in suggested
    snippets = said_by["snippets.md"]
    assert re.search(r"^text SNIPPET_BASIS_WORDS \[.*'account'", snippets, re.MULTILINE), snippets
    assert "<mark>account</mark>" in snippets
    for said in (
        "tag  sport: 2  sale: 1  wool: 1",
        "price  ..20: 2  20..: 1",
        "added  2026-01-01..2026-02-01: 2  2026-03-01..2026-04-01: 1",
        "tag  sport: 1  wool: 1",
        "[('sport', 2)] 2",
    ):
        assert f"\n{said}\n" in said_by["facets.md"], said_by["facets.md"]
    shown = re.findall(r"^ *\d .*\d  (\w) *$", said_by["sort.md"], re.MULTILINE)
    assert shown == ["a", "c", "b", "d", "c", "a", "b"], said_by["sort.md"]
    assert said_by["sort.md"].endswith("[('a', True), ('b', True), ('c', True), ('d', True)]\n")
    for said in (
        "2 documents searchable in parts",
        "2 documents searchable in spares",
        "2 documents searchable in library",
    ):
        assert said in said_by["index-files.md"]
    shown = re.findall(r"^ *1 (.+?)  ", said_by["index-files.md"], re.MULTILINE)
    assert shown == ["Chain oil", "Rivers at night"], said_by["index-files.md"]
    assert re.search(r"^\[0\]$", said_by["send-clicks.md"], re.MULTILINE)
    assert "\n['notes']\n" in said_by["tls.md"]
    assert len(re.findall(r"^ +notes +0 ", said_by["tls.md"], re.MULTILINE)) == 3, said_by["tls.md"]
    assert (tmp_path / "clicks.parquet").stat().st_size > 10_000
    assert (tmp_path / "backup" / "documents.db").exists()


def test_each_reason_leaves_out_a_command() -> None:
    lines = [
        line for page in list_pages() for language, text in read_blocks(page) for line in text.splitlines()
    ]
    unused = [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in lines)]
    assert not unused
