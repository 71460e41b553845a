"""One server for all tests of the API, with models of a few thousand weights."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.served import Api, served, tiny_settings

from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), seed=2)


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of the server that ``api`` talks to."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def api(server_folder: Path, encoder_folder: Path, cross_encoder_folder: Path) -> Iterator[Api]:
    models = {"encoder": str(encoder_folder), "rerankers": (str(cross_encoder_folder),), "device": "cpu"}
    with served(tiny_settings(server_folder, encoder_folder, models=models)) as api:
        yield api


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    """Names of collections that no other test uses."""
    numbers = itertools.count(1)
    return lambda: f"c{next(numbers)}"


@pytest.fixture
def lexical(api: Api, new_name: Callable[[], str]) -> str:
    """An empty collection with the default schema and no encoder."""
    return api.create(new_name(), encoder="none").name


@pytest.fixture(scope="session")
def corpus(api: Api) -> str:
    """A collection with both arms, full of seeded documents; only read."""
    api.create("corpus", schema=SCHEMA_MESSAGE)
    api.upsert("corpus", seeded_documents())
    return "corpus"


@pytest.fixture(scope="session")
def reranked(api: Api, cross_encoder_folder: Path) -> str:
    """The same with a re-ranker; only read."""
    api.create("reranked", schema=SCHEMA_MESSAGE, reranker=str(cross_encoder_folder))
    api.upsert("reranked", seeded_documents())
    return "reranked"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data of a server that is the test's own."""
    return tmp_path / "data"


@pytest.fixture
def new_server(folder: Path, encoder_folder: Path) -> Callable[..., Any]:
    """Starts a server on the test's own data folder."""

    def start(**feedback: Any) -> Any:
        return served(tiny_settings(folder, encoder_folder, feedback=feedback))

    return start
