from pathlib import Path

import pytest

from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.encoder import TransformerEncoder, load_encoder
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exports are kept for the whole session."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), seed=2)


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path, data_folder: Path) -> TransformerEncoder:
    return load_encoder(str(encoder_folder), data_folder, device="cpu")


@pytest.fixture(scope="session")
def cross_encoder(cross_encoder_folder: Path, data_folder: Path) -> TransformerCrossEncoder:
    return load_cross_encoder(str(cross_encoder_folder), data_folder, device="cpu")
