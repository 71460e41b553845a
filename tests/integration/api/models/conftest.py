"""Models to register, and a collection to register them for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.models import BLEND, Models, tiny_reranker
from tests.integration.api.helpers.served import Api


@pytest.fixture(scope="session")
def first_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reranker(tmp_path_factory.mktemp("first"), seed=11)


@pytest.fixture(scope="session")
def second_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reranker(tmp_path_factory.mktemp("second"), seed=12, blend=BLEND)


@pytest.fixture
def models(api: Api) -> Models:
    return Models(api)


@pytest.fixture
def collection(api: Api, new_name: Callable[[], str]) -> str:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(size=30))
    return name
