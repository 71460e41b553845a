import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarry.environment import NO_TELEMETRY, TEMPORARY, keep_files_in, remove_temporary_files

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("quarry", "quarry_server", "quarry_miner", "quarry_trainer", "quarry_cli")
TELLING = {"onnxruntime", "transformers", "sentence_transformers", "huggingface_hub", "datasets"}
"""Libraries that read the environment when they are imported."""
SCRIPTS = [
    *(ROOT / "benchmarks").rglob("*.py"),
    *(ROOT / "tools").glob("*.py"),
    ROOT / "tests" / "conftest.py",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_forbids_telemetry_before_it_imports_a_library(package: str) -> None:
    code = f"""
import json, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {sorted(TELLING)!r}:
            seen.append(dict(os.environ).get("ORT_DISABLE_TELEMETRY"))
seen = []
sys.meta_path.insert(0, Watch())
import {package}
import onnxruntime
print(json.dumps([seen, {{n: os.environ.get(n) for n in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")}}]))
"""
    clean = {n: v for n, v in os.environ.items() if n not in NO_TELEMETRY}
    ran = subprocess.run([sys.executable, "-c", code], env=clean, check=True, capture_output=True, text=True)
    seen, others = json.loads(ran.stdout)
    assert set(seen) == {"1"}
    assert others == {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_imports_a_library_before_quarry(script: Path) -> None:
    for name in imported(script):
        if name.split("_")[0] == "quarry":
            return
        assert name not in TELLING, f"import quarry before {name}"


def imported(script: Path) -> Iterator[str]:
    """Top-level packages that the script imports at first, in order."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        match node:
            case ast.Import():
                yield from (alias.name.split(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield module.split(".")[0]


def test_temporary_files_lie_in_the_data_folder_and_go_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    keep_files_in(tmp_path)
    remove_temporary_files(tmp_path)
    assert Path(tempfile.mkdtemp()).parent == tmp_path / TEMPORARY
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(tmp_path)
    (tmp_path / "kept").write_text("x")
    (tmp_path / TEMPORARY / "link").symlink_to(tmp_path / "kept")
    remove_temporary_files(tmp_path)
    assert list((tmp_path / TEMPORARY).iterdir()) == []
    assert (tmp_path / "kept").exists()


def test_no_folder_of_somebody_else_is_emptied(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (data / "tmp", elsewhere):
        folder.mkdir(parents=True)
        (folder / "precious").write_text("x")
    (data / TEMPORARY).symlink_to(elsewhere)
    remove_temporary_files(data)
    assert (data / "tmp" / "precious").exists()
    assert (elsewhere / "precious").exists()
