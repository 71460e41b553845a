"""What is trained is what is served, in all forms of re-ranker."""

from pathlib import Path

import numpy as np
import pytest
import torch

from quarry.errors import ModelError
from quarry.models.cross_encoder import load_cross_encoder
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.training.forms import FormName, read_model_form
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.trainable_forms import Form, FormScorer, OfStates, open_form, start_folder

BY_STATES = pytest.mark.parametrize("kind", ["split", "late"])
PAIRS = [("the bado", "cobe fidu nami"), ("gira", "lute of sapo to bine"), ("the bado", "mo mo mo")]


@pytest.fixture(params=["split", "late", "cross", "ordinary"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "ordinary":
        return make_tiny_cross_encoder(tmp_path / "ordinary", seed=3)
    return start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), request.param, 1, tmp_path / "start")


def scores(form: Form) -> list[float]:
    return [found.score for found in FormScorer(form).score(PAIRS)]


def served(folder: Path, data: Path) -> list[float]:
    return [found.score for found in load_cross_encoder(str(folder), data, "cpu").score(PAIRS)]


def near(folder: Path) -> float:
    """How far a score may be from that in training: states are rounded when it serves, or vectors to int8."""
    return 0.1 if read_model_form(folder).late else 5e-3


def test_it_scores_as_it_is_served(folder: Path, tmp_path: Path) -> None:
    np.testing.assert_allclose(scores(open_form(folder, 64, 0)), served(folder, tmp_path), atol=near(folder))


def test_what_was_trained_is_served(folder: Path, tmp_path: Path) -> None:
    form = open_form(folder, 64, 0)
    before = scores(form)
    optimizer = torch.optim.SGD(form.list_parameter_groups(0.5, 0.0))
    form.module(**form.make_inputs(PAIRS)).sum().backward()
    optimizer.step()
    form.save(tmp_path / "saved")
    after = served(tmp_path / "saved", tmp_path)
    assert np.abs(np.array(after) - before).max() > 0.05
    np.testing.assert_allclose(after, scores(form), atol=near(folder))


def test_lower_layers_of_a_split_one_stay_as_they_are(tmp_path: Path) -> None:
    start = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), "split", 1, tmp_path / "split")
    form = open_form(start, 64, 0)
    trained = {name for name, p in form.module.named_parameters() if p.requires_grad}
    assert any("layer.1." in name for name in trained)
    assert "split.damping" in trained
    assert not any("layer.0." in name or "embeddings" in name for name in trained)


def test_of_a_late_one_the_whole_encoder_stays_as_it_is(tmp_path: Path) -> None:
    start = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), "late", 1, tmp_path / "late")
    form = open_form(start, 64, 0)
    given = [p for group in form.list_parameter_groups(0.1, 0.01) for p in group["params"]]
    assert {id(p) for p in given} == {id(p) for p in form.module.parameters()}
    assert sum(p.numel() for p in given) < 0.5 * sum(p.numel() for p in form.late.parameters())  # type: ignore[attr-defined]


def test_what_a_late_one_learns_is_pulled_to_where_it_began_but_for_its_factors(tmp_path: Path) -> None:
    start = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), "late", 1, tmp_path / "late")
    form = open_form(start, 64, 0)
    assert isinstance(form, LateForm)
    groups = form.list_parameter_groups(0.1, 0.0)
    pulled = {id(p) for group in groups if group["pull"] > 0 for p in group["params"]}
    head = form.late.head
    assert pulled == {id(p) for p in (head.projection, head.offset, head.token_weights)}
    for group in groups:
        for parameter, anchor in zip(group["params"], group["anchors"], strict=True):
            assert torch.equal(parameter, anchor) and parameter.data_ptr() != anchor.data_ptr()


@pytest.mark.parametrize(("kind", "mask"), [("split", "token_type_ids"), ("late", "passage_mask")])
def test_a_long_passage_is_cut_to_what_was_asked(tmp_path: Path, kind: FormName, mask: str) -> None:
    start = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), kind, 1, tmp_path / "start")
    inputs = open_form(start, 16, 0).make_inputs([("the bado", "mo " * 60)])
    assert int(inputs[mask].sum()) == 16


@BY_STATES
def test_states_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: FormName) -> None:
    start = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), kind, 1, tmp_path / "start")
    form = open_form(start, 64, 0)
    assert isinstance(form, OfStates)
    first = form.make_inputs(PAIRS)
    monkeypatch.setattr(form.states, "_read", lambda _tokens: pytest.fail("made again"))
    again = form.make_inputs(PAIRS)
    assert all(torch.equal(first[name], again[name]) for name in first)


@BY_STATES
def test_states_are_shared_by_models_with_the_same_lower_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: FormName
) -> None:
    start = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), kind, 1, tmp_path / "start")
    other = start_folder(make_tiny_encoder(tmp_path / "other", seed=4), kind, 1, tmp_path / "other-start")
    first = open_form(start, 64, 0)
    expected = scores(first)
    same, different = (open_form(folder, 64, 0, like=first) for folder in (start, other))
    assert abs(scores(different)[0] - expected[0]) > 1e-3
    monkeypatch.setattr(same.states, "_read", lambda _tokens: pytest.fail("made again"))
    assert scores(same) == pytest.approx(expected)


def test_a_cross_encoder_is_its_own_start(tmp_path: Path) -> None:
    ordinary = make_tiny_cross_encoder(tmp_path / "ordinary", seed=3)
    assert start_folder(ordinary, "split", 1, tmp_path / "split") == ordinary


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        start_folder(tmp_path, "split", 1, tmp_path / "split")
