"""Runs the unit and contract tests against the lowest versions that pyproject.toml allows.

    python tools/lowest.py FOLDER [PIN ...] [-- PYTEST ARGUMENT ...]

FOLDER gets an environment of its own. A PIN, such as ``torch==2.13.0``, stands in for a lowest version that
cannot be had. Needs uv, and an index as pip has one.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("server", "miner", "trainer", "testing")
TESTS = ("--numprocesses", "auto", "--dist", "loadfile", "tests/unit", "tests/contract")


def run(*command: str | Path, **environment: str) -> None:
    """Runs a command in the checkout. Raises CalledProcessError if it fails."""
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], cwd=ROOT, env=os.environ | environment, check=True)


def install(folder: Path, pins: list[str]) -> Path:
    """Makes an environment of the lowest versions in ``folder``; returns its interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned, wanted, python = folder / "pins.txt", folder / "lowest.txt", folder / "environment/bin/python"
    pinned.write_text("\n".join(pins))
    uv = (sys.executable, "-m", "uv")
    groups = [part for extra in EXTRAS for part in ("--extra", extra)] + ["--group", "dev"]
    resolve = (*uv, "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--constraint", pinned)
    run(*resolve, *groups, "--python", sys.executable, "--output-file", wanted, "pyproject.toml")
    run(*uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder / "environment")
    run(*uv, "pip", "install", "--quiet", "--python", python, "--requirement", wanted)
    run(*uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ".")
    return python


def main(arguments: list[str]) -> None:
    ours, _, tests = " ".join(arguments).partition(" -- ")
    folder, *pins = ours.split()
    python = install(Path(folder).resolve(), pins)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    run(python, "-m", "pytest", *(tests.split() or TESTS), PATH=path, PYTHONPATH="")


if __name__ == "__main__":
    main(sys.argv[1:])
