"""The check of the lowest versions runs the tests that it is told to run."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location("tools_lowest", ROOT / "tools/lowest.py")
assert spec and spec.loader
lowest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lowest)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Fills with the folder, the pins and pytest's arguments of a run, which installs and runs nothing."""
    found: list[object] = []

    def install(folder: Path, pins: list[str]) -> Path:
        found.extend([folder, pins])
        return folder / "environment/bin/python"

    monkeypatch.setattr(lowest, "install", install)
    monkeypatch.setattr(lowest, "run", lambda *words, **_: found.append(words[words.index("pytest") + 3 :]))
    return found


def test_an_argument_keeps_its_spaces(ran: list[object], tmp_path: Path) -> None:
    folder = tmp_path / "of its own"
    lowest.main([str(folder), "torch==2.13.0", "--", "tests/unit", "-k", "lag and not late"])
    assert ran == [folder, ["torch==2.13.0"], ("tests/unit", "-k", "lag and not late")]


@pytest.mark.parametrize("end", [[], ["--"]])
def test_without_arguments_for_pytest_all_quick_tests_run(
    ran: list[object], tmp_path: Path, end: list[str]
) -> None:
    lowest.main([str(tmp_path), *end])
    assert ran == [tmp_path, [], lowest.TESTS]


def test_without_a_folder_it_says_how_it_is_called(ran: list[object]) -> None:
    with pytest.raises(SystemExit, match="FOLDER"):
        lowest.main(["--", "tests/unit"])
    assert not ran
