"""A student has some of its teacher's layers, and is a model like any other."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from quarry.errors import InvalidArgumentError
from quarry.models.cross_encoder import load_cross_encoder
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.training.forms import read_model_form
from quarry_trainer.learning.student import choose_evenly, cut_student
from quarry_trainer.learning.trainable_forms import start_folder

PAIRS = [("the bado", "cobe fidu nami"), ("gira", "mo mo mo")]


@pytest.mark.parametrize(
    ("layers", "wanted", "expected"),
    [(6, 3, [1, 3, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (12, 4, [2, 5, 8, 11]), (6, 1, [5]), (5, 2, [2, 4])],
)
def test_layers_are_taken_at_even_distances(layers: int, wanted: int, expected: list[int]) -> None:
    assert choose_evenly(layers, wanted) == expected


def test_a_student_of_an_ordinary_cross_encoder(tmp_path: Path) -> None:
    teacher = make_tiny_cross_encoder(tmp_path / "teacher", seed=3)
    student = cut_student(teacher, 1, tmp_path / "student")
    assert read_model_form(student).layers == 1
    old, new = load_file(teacher / "model.safetensors"), load_file(student / "model.safetensors")
    name = "bert.encoder.layer.{}.attention.self.query.weight"
    assert new[name.format(0)].equal(old[name.format(1)])
    assert name.format(1) not in new
    scores = [found.score for found in load_cross_encoder(str(student), tmp_path, "cpu").score(PAIRS)]
    assert scores[0] != scores[1]


def test_a_student_of_a_split_one_keeps_its_joint_layers(tmp_path: Path) -> None:
    split = start_folder(make_tiny_encoder(tmp_path / "encoder", seed=3), "split", 1, tmp_path / "split")
    with pytest.raises(InvalidArgumentError, match="1 is not 2 to 2"):
        cut_student(split, 1, tmp_path / "student")
    assert read_model_form(cut_student(split, 2, tmp_path / "student")).joint_layers == 1


def test_it_cannot_have_more_layers_than_its_teacher(tmp_path: Path) -> None:
    teacher = make_tiny_cross_encoder(tmp_path / "teacher", seed=3)
    with pytest.raises(InvalidArgumentError, match="3 is not 1 to 2"):
        cut_student(teacher, 3, tmp_path / "student")
