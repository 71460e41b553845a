"""Runs the unit and contract tests against the lowest versions that pyproject.toml allows.

    python tools/lowest.py FOLDER [PIN ...] [-- PYTEST ARGUMENT ...]

FOLDER gets an environment of its own. A PIN, such as ``torch==2.13.0``, stands in for a lowest version that
cannot be had. Only what pyproject.toml names is at its lowest version; what those packages need is as new as
they allow. So a deprecation warning is no error here: an old package may use what a new one deprecates.
Needs uv, and an index as pip has one.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("server", "miner", "trainer", "parquet", "testing")
TESTS = ("--numprocesses", "auto", "--dist", "loadfile", "tests/unit", "tests/contract")


def run(*command: str | Path, **environment: str) -> None:
    """Runs a command in the checkout. Exits with its code if it fails."""
    print("$", *command, flush=True)
    words = [str(part) for part in command]
    ended = subprocess.run(words, cwd=ROOT, env=os.environ | environment, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def install(folder: Path, pins: list[str]) -> Path:
    """Makes an environment of the lowest versions in ``folder``; returns its interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned, wanted, python = folder / "pins.txt", folder / "lowest.txt", folder / "environment/bin/python"
    pinned.write_text("\n".join(pins))
    uv = (sys.executable, "-m", "uv")
    groups = [part for extra in EXTRAS for part in ("--extra", extra)] + ["--group", "dev"]
    resolve = (*uv, "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--constraint", pinned)
    run(*resolve, *groups, "--python", sys.executable, "--output-file", wanted, "pyproject.toml")
    list_versions(wanted)
    run(*uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder / "environment")
    run(*uv, "pip", "install", "--quiet", "--python", python, "--requirement", wanted)
    run(*uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ".")
    return python


def list_versions(wanted: Path) -> None:
    """Prints the version that is tested of each package in pyproject.toml, and the bound if it is lower."""
    lines = [line for line in wanted.read_text().splitlines() if "==" in line and line[0].isalnum()]
    split = (line.split("==") for line in lines)
    tested = {canonicalize_name(name): version for name, version in split}
    for name, bound in sorted(read_bounds().items()):
        above = "" if Version(tested[name]) == Version(bound) else f"  above the bound, {bound}"
        print(f"{name} {tested[name]}{above}")


def read_bounds() -> dict[str, str]:
    """Reads the lower bound of each package from pyproject.toml, the highest where it has several."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = described["project"]
    extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    bounds: dict[str, str] = {}
    for line in [*project["dependencies"], *extras, *described["dependency-groups"]["dev"]]:
        needed = Requirement(line)
        for lower in (part.version for part in needed.specifier if part.operator == ">="):
            name = canonicalize_name(needed.name)
            bounds[name] = max(lower, bounds.get(name, lower), key=Version)
    return bounds


def main(arguments: list[str]) -> None:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if not end:
        sys.exit(__doc__)
    (folder, *pins), tests = arguments[:end], arguments[end + 1 :]
    python = install(Path(folder).resolve(), pins)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    warnings = ("-W", "default::DeprecationWarning")
    run(python, "-m", "pytest", *warnings, *(tests or TESTS), PATH=path, PYTHONPATH="")


if __name__ == "__main__":
    main(sys.argv[1:])
