from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.registry.small import Small, small


@pytest.fixture
def faq(tmp_path: Path) -> Iterator[Small]:
    with small(tmp_path / "data") as made:
        made.create("faq")
        yield made
