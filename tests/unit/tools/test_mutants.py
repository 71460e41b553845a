"""The list of planted faults fits the code that there is."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location("tools_mutants", ROOT / "tools/mutants.py")
assert spec and spec.loader
mutants = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = mutants
spec.loader.exec_module(mutants)
LISTED = mutants.read_mutants()


def copy_file(name: str, tree: Path) -> Path:
    target = tree / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((ROOT / name).read_bytes())
    return target


def test_thirty_faults_lie_in_four_areas_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in LISTED}) == len(LISTED) == 30
    areas = Counter(mutant.area for mutant in LISTED)
    assert areas.keys() == {"search", "feedback", "gate", "storage"}
    assert min(areas.values()) >= 7


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.name)
def test_each_fault_can_be_planted_once_and_taken_out_again(mutant: mutants.Mutant, tmp_path: Path) -> None:
    path = copy_file(mutant.file, tmp_path)
    mutant.plant(tmp_path)
    compile(path.read_text(encoding="utf-8"), mutant.file, "exec")
    assert path.read_bytes() != (ROOT / mutant.file).read_bytes()
    mutant.restore(tmp_path)
    assert path.read_bytes() == (ROOT / mutant.file).read_bytes()


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.name)
def test_each_fault_names_tests_that_exist(mutant: mutants.Mutant) -> None:
    assert mutant.check
    assert mutant.integration
    for test in (*mutant.check, *mutant.integration):
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_a_fault_whose_text_is_gone_is_refused(tmp_path: Path) -> None:
    path = copy_file(LISTED[0].file, tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(LISTED[0].old, ""), encoding="utf-8")
    with pytest.raises(ValueError, match="occurs 0 times"):
        LISTED[0].plant(tmp_path)
