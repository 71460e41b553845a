"""README's Python blocks run when they are pasted in turn, and so does the example of the client."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarry_cli.server_process import run_server

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:50051"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose collection ``faq`` holds the sample."""
    with run_server(tmp_path_factory.mktemp("data")) as address:
        sample = ROOT / "examples/data/stackfaq-webapps/corpus.jsonl"
        for command in (
            ["collection", "create", "faq"],
            ["index", "faq", str(sample), "--wait", "searchable"],
        ):
            subprocess.run([sys.executable, "-m", "quarry_cli", *command, "--server", address], check=True)
        yield address


def run_blocks(page: str, address: str) -> list[str]:
    """Runs the page's blocks in one interpreter, as a reader would paste them. Returns what they print."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) > 1
    assert ADDRESS in blocks[0]
    script = "\n".join(blocks).replace(ADDRESS, address)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_the_blocks_of_the_readme_search_and_record_a_click(server: str) -> None:
    assert "1 How do I delete my Facebook account?" in run_blocks("README.md", server)


def test_the_example_finds_the_book_that_its_filter_leaves(server: str) -> None:
    command = [sys.executable, str(ROOT / "examples/client.py"), server]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"1 \d+\.\d{3} Rendezvous with Rama\n", ended.stdout)


def test_the_example_says_in_a_line_that_no_server_answers() -> None:
    command = [sys.executable, str(ROOT / "examples/client.py"), "127.0.0.1:1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("127.0.0.1:1: UNAVAILABLE: ")
