"""A job is told what the server is set to, and what it starts from."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from quarry.errors import InvalidArgumentError
from quarry.feedback.guards import GuardPolicy
from quarry.models.late_module import make_late_model
from quarry.models.loading import Precision
from quarry.testing import tiny_cross_encoder, tiny_encoder
from quarry.training.spec import DEFAULT_FORM, ModelRef
from quarry.v1 import training_service_pb2 as pb
from quarry_server.training_requests import Ground, parse_distillation, parse_evaluation, parse_training


def ground(folder: Path, precision: Precision = "fp32", reranker: str = "", encoder: str = "none") -> Ground:
    """A server whose models all lie in folders of their names below ``folder``."""
    settings = SimpleNamespace(name="faq", reranker=reranker, encoder=encoder)
    return Ground(
        collection=SimpleNamespace(key=1, settings=settings, ranking_name=""),  # type: ignore[arg-type]
        base_reranker="",
        precision=precision,
        guards=GuardPolicy(),
        server="127.0.0.1:1",
        now_us=1,
        resolve=lambda name: ModelRef(name=name, folder=str(folder / name)),
        key_of=lambda name: 1,
        mining_sets=None,  # type: ignore[arg-type]
        uploads=None,  # type: ignore[arg-type]
    )


def asked(**fields: object) -> pb.TrainRerankerRequest:
    return pb.TrainRerankerRequest(bootstrap=pb.Bootstrap(collections=["faq"]), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_jobs_are_told_the_precision_that_serves(tmp_path: Path, precision: Precision) -> None:
    tiny_cross_encoder(tmp_path / "faq@1", seed=0)
    known = ground(tmp_path, precision)
    assert parse_evaluation(pb.EvaluateRerankerRequest(model="faq@1"), known).precision == precision
    assert parse_training(asked(base="faq@1"), known).precision == precision


def test_training_goes_on_in_the_form_that_serves_unless_another_is_asked_for(tmp_path: Path) -> None:
    tiny_cross_encoder(tmp_path / "faq@1", seed=0)
    tiny_encoder(tmp_path / "encoder", seed=0)
    nothing_serves = ground(tmp_path, encoder="encoder")
    serves = ground(tmp_path, reranker="faq@1", encoder="encoder")

    def start(form: pb.RerankerForm.ValueType, known: Ground, base: str = "") -> tuple[str, str]:
        spec = parse_training(asked(form=form, base=base), known)
        return spec.base.name, spec.form

    assert start(pb.RERANKER_FORM_UNSPECIFIED, nothing_serves) == ("encoder", DEFAULT_FORM)
    assert start(pb.RERANKER_FORM_CROSS, nothing_serves) == ("encoder", "cross")
    assert start(pb.RERANKER_FORM_LATE, nothing_serves) == ("encoder", "late")
    assert start(pb.RERANKER_FORM_UNSPECIFIED, serves) == ("faq@1", "cross")
    assert start(pb.RERANKER_FORM_CROSS, serves) == ("faq@1", "cross")
    assert start(pb.RERANKER_FORM_SPLIT, serves) == ("encoder", "split")
    assert start(pb.RERANKER_FORM_LATE, serves) == ("encoder", "late")
    make_late_model(tmp_path / "encoder", tmp_path / "faq@2")
    late_serves = ground(tmp_path, reranker="faq@2", encoder="encoder")
    assert start(pb.RERANKER_FORM_UNSPECIFIED, late_serves) == ("faq@2", "late")
    assert start(pb.RERANKER_FORM_CROSS, serves, "encoder") == ("encoder", "cross")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"form": 77}, "form"),
        ({"form": pb.RERANKER_FORM_SPLIT, "base": "faq@1"}, "form"),
        ({"form": pb.RERANKER_FORM_CROSS, "base": "encoder", "joint_layers": 1}, "joint_layers"),
    ],
)
def test_a_form_that_cannot_be_is_refused(fields: dict[str, object], field: str, tmp_path: Path) -> None:
    tiny_cross_encoder(tmp_path / "faq@1", seed=0)
    tiny_encoder(tmp_path / "encoder", seed=0)
    with pytest.raises(InvalidArgumentError) as error:
        parse_training(asked(**fields), ground(tmp_path))
    assert error.value.field == field


def test_no_student_is_cut_from_a_late_one(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "encoder", seed=0)
    make_late_model(tmp_path / "encoder", tmp_path / "faq@2")
    with pytest.raises(InvalidArgumentError, match="name another"):
        parse_distillation(pb.DistillRerankerRequest(teacher="faq@2"), ground(tmp_path))


def test_who_asks_for_joint_layers_asks_for_a_split_one(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "encoder", seed=0)
    known = ground(tmp_path, encoder="encoder")
    spec = parse_training(asked(joint_layers=2), known)
    assert (spec.form, spec.joint_layers) == ("split", 2)
    with pytest.raises(InvalidArgumentError, match="joint_layers"):
        parse_training(asked(joint_layers=2, form=pb.RERANKER_FORM_LATE), known)
