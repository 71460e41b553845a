"""Late interaction as it is made, kept and loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from quarry.errors import ModelError
from quarry.models.caches.state_cache import ENTRY_BYTES, StateCache
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.loading import load_model
from quarry.models.run_settings import LATE_KEY, ModelKind, read_json
from quarry.models.tokenization import TextTokenizer
from quarry.models.torch_modules.late_module import (
    PREFIX,
    SPECIAL_WEIGHT,
    LateModule,
    load_late_module,
    make_late_model,
    measure_rareness,
    save_late_model,
)
from quarry.models.two_steps.split_tokens import SplitTokenizer
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder

QUERIES = ["the bado", "gira mo lute", "", "中 中"]
PASSAGES = ["cobe fidu nami", "lute of sapo to bine", "mo " * 10, "", "the bado", "rata " * 90]
PAIRS = [(query, passage) for query in QUERIES for passage in PASSAGES]
ROOMY = 2**20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def encoder(data: Path) -> Path:
    return make_tiny_encoder(data / "encoder", seed=5)


@pytest.fixture(scope="module")
def late(encoder: Path, data: Path) -> Path:
    return make_late_model(encoder, data / "late", dimension=12)


def changed(folder: Path, target: Path, change: Callable[[LateModule], object]) -> Path:
    """A copy of the model in which some weights are others."""
    module = load_late_module(folder, "eager")
    with torch.no_grad():
        change(module)
    shutil.copytree(folder, target)
    save_late_model(module, read_json(folder / "config.json"), target)
    return target


def opened(folder: Path, data: Path, states: StateCache | None = None) -> TwoStepCrossEncoder:
    model = load_cross_encoder(str(folder), data, "cpu", states=states)
    assert isinstance(model, TwoStepCrossEncoder)
    return model


def scores(model: TwoStepCrossEncoder) -> np.ndarray:
    return np.array([found.score for found in model.score(PAIRS)])


def test_without_its_tokens_it_is_the_encoder(late: Path, encoder: Path, data: Path, tmp_path: Path) -> None:
    bare = changed(late, tmp_path / "bare", lambda module: module.head.log_scale.fill_(-30.0))
    vectors = load_encoder(str(encoder), data, "cpu")
    cosines = (vectors.encode(QUERIES) @ vectors.encode(PASSAGES).T).ravel()
    long = np.array([len(passage) > 200 for _, passage in PAIRS])  # it leaves less room for a passage
    found = scores(opened(bare, data))
    np.testing.assert_allclose(found[~long], 20 * cosines[~long], atol=0.1)


def test_an_untrained_one_knows_a_passage_by_its_words(late: Path, data: Path) -> None:
    found = dict(zip(PAIRS, scores(opened(late, data)), strict=True))
    assert max(PASSAGES, key=lambda passage: found["the bado", passage]) == "the bado"
    assert found["the bado", "the bado"] == pytest.approx(30.0, abs=0.1)  # both parts at their most


def test_what_nothing_is_known_of_counts_least(late: Path) -> None:
    tokenizer = TextTokenizer(late / "tokenizer.json", 64)
    weights = np.exp(measure_rareness(tokenizer, ["the bado", "the mo", "the gira"], 500))
    of = {word: tokenizer.encode_texts([word])[0].ids[1] for word in ("the", "bado", "gira", "rata", "中")}
    assert weights[of["the"]] < weights[of["bado"]] == weights[of["gira"]] < weights[of["rata"]]
    assert weights[of["中"]] == pytest.approx(SPECIAL_WEIGHT)  # the token of all that is unknown


def test_vectors_in_int8_hardly_move_a_score(late: Path, data: Path) -> None:
    states = StateCache(ROOMY)
    exact = TransformerCrossEncoder(load_model(str(late), ModelKind.CROSS_ENCODER, data, "cpu"))
    expected = np.array([found.score for found in exact.score(PAIRS)])
    found = scores(opened(late, data, states))
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.abs(found - expected).max() > 1e-5  # they are rounded
    assert np.std(expected) > 1
    rows = [
        3 + len(tokens) for tokens in SplitTokenizer(late / "tokenizer.json", 64).encode_passages(PASSAGES)
    ]
    assert states.kept_bytes == sum(rows) * (12 + 4) + len(rows) * ENTRY_BYTES  # 12 numbers and a scale each


def test_versions_share_states_while_their_vectors_are_the_same(
    late: Path, data: Path, tmp_path: Path
) -> None:
    states = StateCache(ROOMY)
    first = scores(opened(late, data, states))
    made = len(states)

    def weigh(module: LateModule) -> None:
        module.head.token_weights.add_(torch.linspace(-1, 1, len(module.head.token_weights)))

    weighed = scores(opened(changed(late, tmp_path / "weighed", weigh), data, states))
    assert np.abs(weighed - first).max() > 0.1
    assert len(states) == made
    turned = changed(late, tmp_path / "turned", lambda module: module.head.projection[:, 0].add_(1.0))
    assert np.abs(scores(opened(turned, data, states)) - first).max() > 0.1
    assert len(states) == 2 * made


def test_only_a_bert_becomes_one(data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(make_tiny_cross_encoder(data / "other", seed=1), tmp_path / "other")
    config = read_json(other / "config.json") | {"model_type": "distilbert"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="BERT"):
        make_late_model(other, tmp_path / "late")


@pytest.mark.parametrize("name", ["projection", "token_weights", "dense_weight"])
def test_weights_that_are_missing_or_do_not_fit_are_refused(name: str, late: Path, tmp_path: Path) -> None:
    for number, tensor in enumerate([None, torch.zeros(3, 3)]):
        broken = shutil.copytree(late, tmp_path / str(number))
        weights = load_file(late / "model.safetensors")
        del weights[PREFIX + name]
        save_file(
            weights if tensor is None else {**weights, PREFIX + name: tensor}, broken / "model.safetensors"
        )
        with pytest.raises(ModelError, match=r"lacks weights|do not fit"):
            load_cross_encoder(str(broken), tmp_path, "cpu")


@pytest.mark.parametrize("own", [{}, {"dimension": 10**12}, {"dimension": "64"}, [], None, 5])
def test_a_config_that_lies_is_refused(own: object, late: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(late, tmp_path / "broken")
    config = read_json(late / "config.json") | {LATE_KEY: own}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_cross_encoder(str(broken), tmp_path, "cpu")


def test_weights_that_are_no_numbers_are_refused(late: Path, tmp_path: Path) -> None:
    broken = changed(late, tmp_path / "broken", lambda module: module.head.projection.fill_(torch.nan))
    with pytest.raises(ModelError):
        load_cross_encoder(str(broken), tmp_path, "cpu").score(PAIRS)
