"""The code as a house: no folder is crowded, no module is too long to read, and no import goes round."""

from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "quarry": ROOT / "core" / "quarry",
    "quarry_server": ROOT / "server" / "quarry_server",
    "quarry_miner": ROOT / "miner" / "quarry_miner",
    "quarry_trainer": ROOT / "trainer" / "quarry_trainer",
    "quarry_cli": ROOT / "cli" / "quarry_cli",
}
MOST_MODULES, MOST_LINES = 20, 400


def modules_of(package: str) -> list[Path]:
    """Returns the modules that people write: not what is generated from the protos."""
    generated = PACKAGES["quarry"] / "v1"
    return [path for path in PACKAGES[package].rglob("*.py") if generated not in path.parents]


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside of functions count: whoever reads or moves a module follows them as well."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules of a cycle


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_is_crowded_and_no_module_is_long(package: str) -> None:
    modules = modules_of(package)
    assert modules
    folders = {path.parent for path in modules}
    crowded = {str(f): n for f in folders if (n := len(list(f.glob("*.py")))) > MOST_MODULES}
    lines = {str(path): len(path.read_text().splitlines()) for path in modules}
    assert crowded == {}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_folder_of_tests_is_crowded() -> None:
    sizes = Counter(path.parent for path in (ROOT / "tests").rglob("*.py"))
    assert sizes
    assert {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES} == {}
