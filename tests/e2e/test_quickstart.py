"""README's quickstart does what it says."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SET_UP = ("make setup\n", ". .venv/bin/activate\n")


def quickstart() -> str:
    found = re.search(r"```console quickstart\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_quickstart_of_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    script = quickstart()
    for line in SET_UP:
        assert line in script
        script = script.replace(line, "")  # this environment is what they make
    port = free_port()
    script = script.replace("--port 50051", f"--port {port}")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "QUARRY_SERVER": f"127.0.0.1:{port}",
    }
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script + "\nwait\n"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = ended.stdout + ended.stderr
    assert "719 documents searchable in faq" in said, said
    assert "How do I delete my Facebook account?" in said
    assert "fused" in said
    assert "500 sessions of simulated pbm users" in said
    assert re.search(r"^GOOD$", said, re.MULTILINE), said
    assert (tmp_path / "negatives.parquet").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "negatives.html").read_text()
    assert ended.returncode in (0, 143), said  # 143: the server, ended by the script's own kill


def test_evaluation_of_the_sample_is_at_its_documented_level(tmp_path: Path) -> None:
    from quarry_cli.child import running_server

    sample = ROOT / "examples/data/stackfaq-webapps"
    with running_server(tmp_path) as server:

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
    assert figures.keys() == {"bm25", "dense", "fused"}
