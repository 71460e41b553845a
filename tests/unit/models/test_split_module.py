"""The split cross-encoder, served as any cross-encoder is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from quarry.errors import ModelError
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.run_settings import SPLIT_KEY, read_json
from quarry.models.torch_modules.split_module import START_SCALE, make_split_model
from quarry.testing import make_tiny_encoder

PAIRS = [("the bado", "cobe fidu nami"), ("gira", "the " * 20), ("mo mo", "lute of sapo to bine"), ("a", "b")]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=5)


def test_without_joint_layers_its_score_is_the_encoders_cosine(encoder: Path, tmp_path: Path) -> None:
    split = load_cross_encoder(str(make_split_model(encoder, 0, tmp_path / "split")), tmp_path, "cpu")
    vectors = load_encoder(str(encoder), tmp_path, "cpu")
    queries, passages = (vectors.encode(texts) for texts in zip(*PAIRS, strict=True))
    cosines = (queries * passages).sum(axis=1)
    scores = np.array([found.score for found in split.score(PAIRS)])
    np.testing.assert_allclose(scores, START_SCALE * cosines, atol=1e-3)


def test_joint_layers_read_both_texts(encoder: Path, tmp_path: Path) -> None:
    apart, joint = (
        load_cross_encoder(str(make_split_model(encoder, layers, tmp_path / f"s{layers}")), tmp_path, "cpu")
        for layers in (0, 1)
    )
    differences = [
        abs(a.score - b.score) for a, b in zip(apart.score(PAIRS), joint.score(PAIRS), strict=True)
    ]
    assert min(differences) > 1e-3


def test_a_score_does_not_depend_on_its_batch(encoder: Path, tmp_path: Path) -> None:
    split = load_cross_encoder(str(make_split_model(encoder, 1, tmp_path / "split")), tmp_path, "cpu")
    together = [found.score for found in split.score(PAIRS)]
    alone = [split.score([pair])[0].score for pair in PAIRS]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_more_joint_layers_than_there_are_is_an_error(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 joint layers: the encoder has 2"):
        make_split_model(encoder, 3, tmp_path / "split")


@pytest.mark.parametrize(
    "own",
    [{}, [], None, 5, {"joint_layers": "1", "scale": 20.0}, {"joint_layers": 1, "scale": -1.0},
     {"joint_layers": 2, "scale": 20.0}],
)  # fmt: skip
def test_a_config_that_lies_is_refused(own: object, encoder: Path, tmp_path: Path) -> None:
    split = make_split_model(encoder, 1, tmp_path / "split")
    broken = shutil.copytree(split, tmp_path / "broken")
    config = read_json(split / "config.json") | {SPLIT_KEY: own}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_cross_encoder(str(broken), tmp_path, "cpu")
