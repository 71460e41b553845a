"""A re-ranker in training is judged as it serves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quarry.models.base import ModelInfo, PairScore
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.runtime.runner import Precision
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.training.forms import FormName
from quarry.training.spec import ModelRef, TrainingSpec
from quarry_trainer.data.dataset import BadExamplesError, TextGroup, with_teacher
from quarry_trainer.learning.trainable_forms import FormScorer
from quarry_trainer.trainings.recipe import PreparedModel
from quarry_trainer.trainings.reranker import RerankerRecipe

PAIRS = [("the bado", "cobe fidu nami"), ("gira", "lute of sapo to bine"), ("the bado", "mo mo mo")]


def prepare(base: Path, data: Path, precision: Precision, form: FormName = "split") -> PreparedModel:
    asked = spec(base, precision=precision, form=form)
    return RerankerRecipe(asked, data, data / "work").prepare(groups_of_pairs())


def spec(base: Path, **asked: Any) -> TrainingSpec:
    return TrainingSpec(
        name="faq-1",
        collection="faq",
        collection_key=1,
        server="127.0.0.1:1",
        base=ModelRef(name="base", folder=str(base)),
        **asked,
    )


@pytest.mark.parametrize("form", ["split", "cross"])
def test_where_int8_serves_a_model_is_scored_in_that_and_in_float32(form: FormName, tmp_path: Path) -> None:
    make = make_tiny_cross_encoder if form == "cross" else make_tiny_encoder
    rounded = prepare(make(tmp_path / "base", seed=3), tmp_path, "int8", form)
    rounded.save(tmp_path / "model")

    def scores(precision: Precision) -> list[float]:
        model = load_cross_encoder(str(tmp_path / "model"), tmp_path, "cpu", precision=precision)
        return [one.score for one in model.score(PAIRS)]

    served, exact = rounded.served.load(tmp_path / "model"), rounded.served.load_exact(tmp_path / "model")
    assert exact is not None
    found = [one.score for one in served.score(PAIRS)]
    assert found == pytest.approx(scores("int8"), abs=1e-6)
    assert found != pytest.approx(scores("fp32"), abs=1e-6)
    assert [one.score for one in exact.score(PAIRS)] == pytest.approx(scores("fp32"), abs=5e-3)


def test_where_float32_serves_there_is_nothing_to_hold_it_to(tmp_path: Path) -> None:
    plain = prepare(make_tiny_encoder(tmp_path / "base", seed=3), tmp_path, "fp32")
    plain.save(tmp_path / "model")
    assert plain.served.load_exact(tmp_path / "model") is None
    assert isinstance(plain.served.load(tmp_path / "model"), FormScorer)


def test_a_late_one_is_judged_with_its_vectors_as_they_are_kept(tmp_path: Path) -> None:
    made = prepare(make_tiny_encoder(tmp_path / "base", seed=3), tmp_path, "fp32", "late")
    made.save(tmp_path / "model")
    served = [one.score for one in load_cross_encoder(str(tmp_path / "model"), tmp_path, "cpu").score(PAIRS)]
    assert [one.score for one in made.served.load(tmp_path / "model").score(PAIRS)] == pytest.approx(served)
    assert [one.score for one in made.scorer.score(PAIRS)] != pytest.approx(served, abs=1e-6)


def groups_of_pairs() -> list[TextGroup]:
    return [
        TextGroup(query, ("p", "n"), (passage, "bine fidu"), (0.5, 0.5), (True, False), (1.0, 1.0))
        for query, passage in PAIRS
    ]


def test_a_teacher_of_another_vocabulary_reads_the_texts_with_its_own(tmp_path: Path) -> None:
    """Ids of the student's tokenizer would be other words to it."""
    base, taught = (
        make_tiny_cross_encoder(tmp_path / "base", seed=3),
        make_tiny_cross_encoder(tmp_path / "t", seed=8),
    )
    assert (base / "tokenizer.json").read_bytes() != (taught / "tokenizer.json").read_bytes()
    asked = spec(base, teacher=ModelRef(name="teacher", folder=str(taught)), loss="margin-mse")
    prepared = RerankerRecipe(asked, tmp_path, tmp_path / "work").prepare(groups_of_pairs()).groups
    model = load_cross_encoder(str(taught), tmp_path, "cpu")
    for group in prepared:
        own = [one.score for one in model.score([(group.query, passage) for passage in group.passages])]
        assert group.teacher == pytest.approx(own, abs=1e-5)


RUSSIAN = [
    ("как восстановить пароль", "откройте страницу входа и нажмите на ссылку под полем"),
    ("где мой заказ 12", "состояние заказа показано в личном кабинете"),
]


def test_a_teacher_that_lacks_the_letters_of_the_texts_makes_no_model(tmp_path: Path) -> None:
    """It gives such texts different scores all the same, by their length and their commas."""
    taught = make_tiny_cross_encoder(tmp_path / "t", seed=8)
    base = make_tiny_cross_encoder(tmp_path / "base", seed=3)
    asked = spec(base, teacher=ModelRef(name="teacher", folder=str(taught)), loss="margin-mse")
    groups = [
        TextGroup(query, ("p", "n"), (passage, "другое"), (0.5, 0.5), (True, False), (1.0, 1.0))
        for query, passage in RUSSIAN
    ]
    with pytest.raises(BadExamplesError, match="lacks 98% of the text"):
        RerankerRecipe(asked, tmp_path, tmp_path / "work").prepare(groups)


class Says:
    """A teacher that gives every pair one score."""

    def __init__(self, score: float) -> None:
        self.info, self._score = ModelInfo("says", "0" * 32, 64), score

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(self._score, False) for _ in pairs]


@pytest.mark.parametrize(("score", "problem"), [(0.25, "the same score"), (float("nan"), "not a finite")])
def test_a_teacher_that_tells_nothing_apart_makes_no_model(score: float, problem: str) -> None:
    with pytest.raises(BadExamplesError, match=problem):
        with_teacher(groups_of_pairs(), Says(score))
