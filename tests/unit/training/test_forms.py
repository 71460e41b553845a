"""The form of a model is read from its folder: encoder, cross-encoder, or a split one."""

import json
from pathlib import Path

import pytest

from quarry.errors import ModelError
from quarry.models.run_settings import ModelKind
from quarry.models.torch_modules.late_module import make_late_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.training.forms import ModelForm, read_model_form


def test_each_form_is_told_from_the_others(tmp_path: Path) -> None:
    encoder = make_tiny_encoder(tmp_path / "encoder", seed=1)
    split = make_split_model(encoder, 1, tmp_path / "split")
    plain = make_tiny_cross_encoder(tmp_path / "plain", seed=1)
    late = make_late_model(encoder, tmp_path / "late")
    assert read_model_form(late) == ModelForm(ModelKind.CROSS_ENCODER, max_tokens=64, layers=2, late=True)
    assert read_model_form(late).name == "late"
    assert read_model_form(encoder) == ModelForm(ModelKind.ENCODER, max_tokens=64, layers=2)
    assert read_model_form(split) == ModelForm(
        ModelKind.CROSS_ENCODER, max_tokens=64, layers=2, joint_layers=1
    )
    assert read_model_form(plain) == ModelForm(ModelKind.CROSS_ENCODER, max_tokens=64, layers=2)


def test_what_is_no_model_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_model_form(tmp_path)
    several = make_tiny_cross_encoder(tmp_path / "several", seed=1, labels=3)
    with pytest.raises(ModelError, match="3 labels"):
        read_model_form(several)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="how many layers"):
        read_model_form(tmp_path)
