"""Plants the faults of mutants.toml and says which tests notice them: `mutants.py [NAME or AREA ...]`.

Each fault is planted in a temporary copy of the tree, never in the checkout. First its own unit and contract
tests run there; if they pass, all unit and contract tests; if these pass, its integration tests. A test that
fails must pass without the fault. The script prints a line of JSON for each fault, and one at the end. It
fails if more faults survive than `MOST_SURVIVE` allows, or if the list does not fit the code.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".toml")
PACKAGES = ("core", "server", "miner", "trainer", "cli")
CHECK = ("tests/unit", "tests/contract", "--ignore=tests/unit/tools")
"""All quick tests but that of the list, which fails wherever a fault is planted."""
MOST_SURVIVE = {"check": 5, "test": 2}
"""Faults that may survive `make check`, and `make test`."""


@dataclass(frozen=True)
class Mutant:
    """A fault to plant.

    Attributes:
        old: a text that occurs once in ``file``, and that ``new`` takes the place of.
        harm: what goes wrong for a user.
        check: the unit and contract tests that are to fail; ``integration`` likewise.
        history: how the fault was first caught, where that took a new test; empty if it took none.
    """

    name: str
    area: str
    file: str
    old: str
    new: str
    harm: str
    check: tuple[str, ...]
    integration: tuple[str, ...]
    history: str = ""

    def plant(self, tree: Path) -> None:
        """Plants the fault in a copy of the tree. Raises ValueError if ``old`` does not occur once."""
        path = tree / self.file
        source = path.read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: the old text occurs {source.count(self.old)} times in {self.file}"
            )
        path.write_text(source.replace(self.old, self.new), encoding="utf-8")

    def restore(self, tree: Path) -> None:
        """Restores the file, with the time that its compiled form remembers."""
        shutil.copy2(ROOT / self.file, tree / self.file)


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """Reads the list, in its order."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    tests = ("check", "integration")
    return [Mutant(**row | {name: tuple(row[name]) for name in tests}) for row in rows]


def copy_tree(target: Path) -> None:
    """Copies what git knows or would add, and links the test data beside it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    if (shared := ROOT.parent / "shared").exists():
        (target.parent / "shared").symlink_to(shared.resolve())


def run_tests(tree: Path, tests: Sequence[str], *options: str) -> list[str]:
    """Runs tests in the tree, and returns the ids of those that failed. Raises SystemExit if none can run."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(tree / package) for package in PACKAGES),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "--cache-clear", "--tb=short", *options, *tests]
    output = tree.parent / "output.txt"
    with output.open("w", encoding="utf-8") as file:
        running = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            status = running.wait()
        finally:  # a server that ought to have refused to start may still be there
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    failed = tree / ".pytest_cache/v/cache/lastfailed"
    if status == 0:
        return []
    if status not in (1, 2) or not failed.exists():
        raise SystemExit(f"pytest {' '.join(tests)} did not run:\n{output.read_text(encoding='utf-8')}")
    return list(json.loads(failed.read_text()))


def find_catch(tree: Path, mutant: Mutant, tests: Sequence[str]) -> str | None:
    """Plants the fault and returns the first test that fails; None if all pass."""
    mutant.plant(tree)
    try:
        return next(iter(run_tests(tree, tests, "-x")), None)
    finally:
        mutant.restore(tree)


def try_mutant(tree: Path, mutant: Mutant) -> dict[str, str | None]:
    """Finds the test that catches the fault: of the quick ones if there is one, else of integration."""
    check = find_catch(tree, mutant, mutant.check) or find_catch(tree, mutant, CHECK)
    return {"check": check, "integration": None if check else find_catch(tree, mutant, mutant.integration)}


def main(wanted: Sequence[str]) -> int:
    listed = read_mutants()
    if unknown := set(wanted) - {word for mutant in listed for word in (mutant.name, mutant.area)}:
        raise SystemExit(f"no fault or area is called {', '.join(sorted(unknown))}")
    chosen = [m for m in listed if not wanted or {m.name, m.area} & set(wanted)]
    caught: list[dict[str, str | None]] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        copy_tree(tree)
        for mutant in chosen:
            clock = time.monotonic()
            caught.append(try_mutant(tree, mutant))
            seconds = round(time.monotonic() - clock, 1)
            print(json.dumps({"name": mutant.name, **caught[-1], "seconds": seconds}), flush=True)
        catching = sorted({test for one in caught for test in one.values() if test})
        broken = run_tests(tree, catching) if catching else []
    survived = {
        "check": sum(one["check"] is None for one in caught),
        "test": sum(not any(one.values()) for one in caught),
    }
    end = {"mutants": len(chosen), "survived": survived, "most": MOST_SURVIVE, "fail without a fault": broken}
    print(json.dumps(end))
    return int(bool(broken) or any(survived[stage] > most for stage, most in MOST_SURVIVE.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
