import pytest

from quarry.models.encoder import TransformerEncoder, load_encoder
from quarry.testing import make_tiny_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TransformerEncoder:
    folder = make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)
    return load_encoder(str(folder), tmp_path_factory.mktemp("data"), device="cpu")
