"""A part that breaks its contract fails the test of what it breaks; the example of the page fails none."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.contract.broken_part_tests import NOTICED

from quarry import testing

BROKEN = Path(__file__).with_name("broken_part_tests.py")
ROOT = BROKEN.parents[2]
PAGE = "TestMyIndex"
"""The class that docs/how-to/test-a-part.md shows."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The tests that failed, by class, of those that must fail, and all of a class that must fail none."""
    folder = tmp_path_factory.mktemp("broken")
    report, page = folder / "report.xml", folder / "test_page.py"
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/how-to/test-a-part.md").read_text(), re.DOTALL
    )
    page.write_text(block)
    asked = [
        f"{BROKEN}::{kind.__name__}{test}"
        for kind, tests in NOTICED.items()
        for test in ([f"::{test}" for test in tests] or [""])
    ]
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "pyproject.toml",
            "--rootdir", ".", f"--junitxml={report}", *asked, f"{page}::{PAGE}",
        ],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    found: dict[str, set[str]] = {name: set() for name in (PAGE, *(kind.__name__ for kind in NOTICED))}
    ran: set[str] = set()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  written by the run above
        kind = case.attrib["classname"].rpartition(".")[2]
        ran.add(kind)
        if case.find("failure") is not None:
            found[kind].add(case.attrib["name"].partition("[")[0])
    assert ran == found.keys()
    return found


def test_pytest_shows_the_values_of_every_contract_that_fails() -> None:
    for file in (ROOT / "core/quarry/testing").glob("*.py"):
        if re.search(r"^class \w+Contract\b", file.read_text(), re.MULTILINE):
            assert file.stem in testing._CONTRACTS


@pytest.mark.parametrize("kind", NOTICED, ids=lambda kind: kind.__name__)
def test_a_broken_part_fails_the_test_of_what_it_breaks(kind: type, failed: dict[str, set[str]]) -> None:
    assert failed[kind.__name__] == set(NOTICED[kind])


def test_the_part_of_the_how_to_page_keeps_its_contract(failed: dict[str, set[str]]) -> None:
    assert failed[PAGE] == set()
