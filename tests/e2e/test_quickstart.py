"""README's quickstart and the tutorial do what they say, pasted one block after the other."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SET_UP = ("make setup\n", ". .venv/bin/activate\n")


def blocks(page: str, label: str) -> str:
    found = re.findall(rf"```console {label}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found
    return "".join(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(script: str, folder: Path) -> str:
    """What a shell says that is given ``script``, with a server on a port that is free."""
    port = free_port()
    script = script.replace("--port 50051", f"--port {port}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "QUARRY_SERVER": f"127.0.0.1:{port}",
    }
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script + "\nwait\n"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode in (0, 143), said  # 143: the server, ended by the script's own kill
    return said


def test_the_quickstart_of_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    script = blocks("README.md", "quickstart")
    for line in SET_UP:
        assert line in script
        script = script.replace(line, "")  # this environment is what they make
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    said = run(script, tmp_path)
    assert "719 documents searchable in faq" in said, said
    assert "How do I delete my Facebook account?" in said
    assert "fused" in said
    assert "500 sessions of simulated pbm users" in said
    assert re.search(r"^GOOD$", said, re.MULTILINE), said
    assert (tmp_path / "negatives.parquet").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "negatives.html").read_text()


def test_a_csv_of_ones_own_is_searched_after_three_commands(tmp_path: Path) -> None:
    tutorial = blocks("docs/tutorial/own-file.md", "tutorial")
    table = re.search(r"^cat > products.csv <<'END'\n.*?^END\n", tutorial, re.DOTALL | re.MULTILINE)
    assert table
    commands = blocks("README.md", "own-file").splitlines()
    assert len(commands) == 3
    assert commands[0] == "quarry serve"
    in_one_terminal = "quarry serve --port 50051 &\nuntil quarry collection list; do sleep 0.3; done"
    said = run("\n".join([table[0], in_one_terminal, *commands[1:], "kill %1"]), tmp_path)
    assert "5 documents searchable in shop" in said, said
    assert re.search(r"name +title, searched", said), said
    assert re.findall(r"^ +1 +(.+?)  ", said, re.MULTILINE) == ["Trail running shoe"], said


def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    said = run(blocks("docs/tutorial/own-file.md", "tutorial"), tmp_path)
    assert "5 documents searchable in shop" in said, said
    shown = re.findall(r"^ +1 .* (p\d) *$", said, re.MULTILINE)
    assert shown == ["p1", "p5", "p4"], said  # the first hit of each search, as the page says
    assert re.search(r"fused.* 1\.000", said), said
    assert "100 sessions of simulated pbm users" in said
    assert "BAD_EXAMPLES" in said, said


def test_evaluation_of_the_sample_is_at_its_documented_level(tmp_path: Path) -> None:
    from quarry_cli.server_process import run_server

    sample = ROOT / "examples/data/stackfaq-webapps"
    with run_server(tmp_path) as server:

        def quarry(*arguments: str) -> str:
            command = [sys.executable, "-m", "quarry_cli", *arguments, "--server", server]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

        quarry("collection", "create", "faq")
        quarry("index", "faq", str(sample / "corpus.jsonl"), "--wait", "searchable")
        files = ["--queries", str(sample / "queries.jsonl"), "--qrels", str(sample / "qrels/test.tsv")]
        figures = json.loads(quarry("evaluate", "faq", *files, "--json"))
    assert figures["bm25"]["nDCG@10"] > 0.77
    assert figures["dense"]["nDCG@10"] > 0.945
    assert figures["fused"]["nDCG@10"] > 0.942
    assert figures.keys() == {"bm25", "dense", "fused", "intervals", "judged_at_10", "counts"}
