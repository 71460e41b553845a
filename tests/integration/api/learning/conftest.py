from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE
from tests.integration.api.helpers.mining import DOCUMENTS, Mining
from tests.integration.api.helpers.served import served, tiny_settings


@pytest.fixture(scope="module")
def mining(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Iterator[Mining]:
    """A server of its own, whose collection ``full`` only ``changed`` tests write to."""
    data = tmp_path_factory.mktemp("mining")
    with served(tiny_settings(data, encoder_folder)) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        api.upsert("full", DOCUMENTS)
        yield Mining(api)
