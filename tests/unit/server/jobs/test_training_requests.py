"""A job is told what the server is set to, and what it starts from."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from quarry.errors import InvalidArgumentError
from quarry.feedback.reading.guards import GuardPolicy
from quarry.models.blend import Blend, write_blend
from quarry.models.calibration import Calibration, write_calibration
from quarry.models.runtime.runner import Precision
from quarry.models.torch_modules.late_module import make_late_model
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.training.spec import DEFAULT_FORM, ModelRef
from quarry.v1 import training_service_pb2 as pb
from quarry_server.training.request_context import RequestContext
from quarry_server.training.requests import (
    parse_distillation,
    parse_evaluation,
    parse_training,
    parse_tuning,
)


def context(
    folder: Path,
    precision: Precision = "fp32",
    reranker: str = "",
    encoder: str = "none",
    cascade: tuple[str, ...] = (),
) -> RequestContext:
    """A server whose models all lie in folders of their names below ``folder``."""
    settings = SimpleNamespace(
        name="faq",
        reranker=reranker,
        encoder=encoder,
        rerankers=frozenset({reranker, *cascade} - {""}),
        schema=SimpleNamespace(searchable=[]),
    )
    return RequestContext(
        collection=SimpleNamespace(key=1, settings=settings, ranking_name=""),  # type: ignore[arg-type]
        base_reranker="",
        precision=precision,
        guards=GuardPolicy(),
        server="127.0.0.1:1",
        now_us=1,
        resolve=lambda name: ModelRef(name=name, folder=str(folder / name)),
        find_collection=lambda name: SimpleNamespace(key=1, settings=settings),  # type: ignore[arg-type,return-value]
        mining_sets=None,  # type: ignore[arg-type]
        uploads=None,  # type: ignore[arg-type]
    )


def asked(**fields: object) -> pb.TrainRerankerRequest:
    return pb.TrainRerankerRequest(document_pretraining=pb.DocumentPretraining(collections=["faq"]), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_jobs_are_told_the_precision_that_serves(tmp_path: Path, precision: Precision) -> None:
    make_tiny_cross_encoder(tmp_path / "faq@1", seed=0)
    known = context(tmp_path, precision)
    assert parse_evaluation(pb.EvaluateRerankerRequest(model="faq@1"), known).precision == precision
    assert parse_training(asked(base="faq@1"), known).precision == precision


def test_training_goes_on_in_the_form_that_serves_unless_another_is_asked_for(tmp_path: Path) -> None:
    make_tiny_cross_encoder(tmp_path / "faq@1", seed=0)
    make_tiny_encoder(tmp_path / "encoder", seed=0)
    nothing_serves = context(tmp_path, encoder="encoder")
    serves = context(tmp_path, reranker="faq@1", encoder="encoder")

    def start(form: pb.RerankerForm.ValueType, known: RequestContext, base: str = "") -> tuple[str, str]:
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
    late_serves = context(tmp_path, reranker="faq@2", encoder="encoder")
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
    make_tiny_cross_encoder(tmp_path / "faq@1", seed=0)
    make_tiny_encoder(tmp_path / "encoder", seed=0)
    with pytest.raises(InvalidArgumentError) as error:
        parse_training(asked(**fields), context(tmp_path))
    assert error.value.field == field


def test_no_student_is_cut_from_a_late_one(tmp_path: Path) -> None:
    make_tiny_encoder(tmp_path / "encoder", seed=0)
    make_late_model(tmp_path / "encoder", tmp_path / "faq@2")
    with pytest.raises(InvalidArgumentError, match="name another"):
        parse_distillation(pb.DistillRerankerRequest(teacher="faq@2"), context(tmp_path))


def test_who_asks_for_joint_layers_asks_for_a_split_one(tmp_path: Path) -> None:
    make_tiny_encoder(tmp_path / "encoder", seed=0)
    known = context(tmp_path, encoder="encoder")
    spec = parse_training(asked(joint_layers=2), known)
    assert (spec.form, spec.joint_layers) == ("split", 2)
    with pytest.raises(InvalidArgumentError, match="joint_layers"):
        parse_training(asked(joint_layers=2, form=pb.RERANKER_FORM_LATE), known)


@pytest.mark.parametrize(
    ("blend", "fitted_to", "gives"),
    [
        (Blend(fused=2.0), "", True),
        (Blend(), "", False),
        (Blend(fused=2.0), "faq/ranking@1", False),
        (Blend(fused=2.0), None, False),
    ],
)
def test_a_tuning_knows_whose_relevance_it_would_end(
    blend: Blend, fitted_to: str | None, gives: bool, tmp_path: Path
) -> None:
    for name in ("faq@1", "faq@2"):
        (tmp_path / name).mkdir()
    write_blend(tmp_path / "faq@1", blend)
    if fitted_to is not None:
        write_calibration(tmp_path / "faq@1", calibration(fitted_to))
    for known in (
        context(tmp_path, reranker="faq@1"),
        context(tmp_path, reranker="faq@2", cascade=("faq@1",)),
    ):
        spec = parse_tuning(pb.TuneRankingRequest(collection="faq"), known, ("bm25", "dense"))
        assert spec.calibrated == (("faq@1",) if gives else ())


def calibration(ranking: str) -> Calibration:
    return Calibration(
        slope=1.0, intercept=0.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02,
        ece_all=0.01, ranking=ranking,
    )  # fmt: skip
