"""A graph in int8 rounds each token by itself, by little, and says so where it cannot."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarry.errors import ModelError
from quarry.models.caches.state_forms import FORMS, ByteStates
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.runtime.open_graph import open_graph
from quarry.models.runtime.quantize import ensure_quantized, quantize_graph, round_weights
from quarry.testing import make_tiny_cross_encoder

WIDTH, OUTPUTS = 32, 24
WEIGHTS = np.random.default_rng(0).standard_normal((WIDTH, OUTPUTS), np.float32)
STATES = np.random.default_rng(1).standard_normal((3, 5, WIDTH), np.float32)
PAIRS = [("the bado", passage) for passage in ("cobe fidu nami", "mo " * 10, "lute of sapo")]


def graph(target: Path, weights: np.ndarray | None) -> Path:
    """A graph of one product, by ``weights`` or by itself."""
    shape: list[str | int | None] = ["batch", "length", WIDTH]
    constants = [] if weights is None else [numpy_helper.from_array(weights, "weights")]
    made = helper.make_graph(
        [helper.make_node("MatMul", ["states", "weights" if constants else "states"], ["output"])],
        "product",
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, target)
    return target


def test_a_product_in_int8_is_that_of_the_rounded_weights_and_tokens(tmp_path: Path) -> None:
    found = OnnxRunner(ensure_quantized(graph(tmp_path / "one.onnx", WEIGHTS))).run({"states": STATES})
    scales = np.abs(STATES).max(axis=-1, keepdims=True) / 127
    values, weight_scales = round_weights(WEIGHTS)
    expected = (np.rint(STATES / scales) @ values.astype(np.float32)) * scales * weight_scales
    assert found.shape == (3, 5, OUTPUTS)
    np.testing.assert_allclose(found, expected, atol=0.02)  # where a number lies between two steps
    np.testing.assert_allclose(found, STATES @ WEIGHTS, atol=0.25)


def test_a_loud_token_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    """One scale for the whole batch would leave the others a step or two."""
    runner = OnnxRunner(ensure_quantized(graph(tmp_path / "one.onnx", WEIGHTS)))
    loud = STATES.copy()
    loud[0, 0] *= 1_000
    apart, beside = (runner.run({"states": states}) for states in (STATES, loud))
    np.testing.assert_array_equal(apart[1:], beside[1:])
    np.testing.assert_array_equal(apart[0, 1:], beside[0, 1:])


def test_a_token_of_zeros_is_no_division_by_zero(tmp_path: Path) -> None:
    found = OnnxRunner(ensure_quantized(graph(tmp_path / "one.onnx", WEIGHTS))).run({"states": 0 * STATES})
    assert not found.any()


def test_weights_stay_in_what_sixteen_bits_can_add() -> None:
    values, _ = round_weights(WEIGHTS)
    assert 255 * 2 * int(np.abs(values.astype(int)).max()) < 2**15


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no constant weights"):
        quantize_graph(graph(tmp_path / "none.onnx", None), tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize("damage", ["cut short", "flipped", "deleted"])
def test_a_damaged_copy_is_made_again(tmp_path: Path, damage: str) -> None:
    source = graph(tmp_path / "one.onnx", WEIGHTS)
    copy = ensure_quantized(source)
    whole = copy.read_bytes()
    match damage:
        case "cut short":
            copy.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            copy.write_bytes(whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:])
        case "deleted":
            copy.unlink()
    assert open_graph(source, "int8").run({"states": STATES}).shape == (3, 5, OUTPUTS)
    assert copy.read_bytes() == whole


def test_a_copy_has_its_name_only_when_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = graph(tmp_path / "one.onnx", WEIGHTS)
    named: list[bool] = []
    sync, target = os.fsync, tmp_path / "one.int8.onnx"

    def noted(file: int) -> None:
        named.append(target.exists())
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    assert ensure_quantized(source) == target
    assert named[:1] == [False]


def test_the_precision_is_part_of_the_fingerprint_and_moves_scores_a_little(tmp_path: Path) -> None:
    folder = str(make_tiny_cross_encoder(tmp_path / "model", seed=2))
    exact = load_cross_encoder(folder, tmp_path, "cpu")
    rounded = load_cross_encoder(folder, tmp_path, "cpu", precision="int8")
    assert rounded.info.fingerprint == f"{exact.info.fingerprint}-int8"
    differences = [
        abs(a.score - b.score) for a, b in zip(exact.score(PAIRS), rounded.score(PAIRS), strict=True)
    ]
    assert 0 < max(differences) < 0.1


@pytest.mark.parametrize(("precision", "worst"), [("fp32", 2e-3), ("int8", 0.02)])
def test_kept_states_are_read_as_they_were_rounded(precision: str, worst: float) -> None:
    form = FORMS[precision]
    kept = form.keep(STATES[0])
    assert kept.base is None
    np.testing.assert_allclose(form.read(kept), STATES[0], atol=worst)
    np.testing.assert_array_equal(form.read(form.keep(form.read(kept).astype(np.float32))), form.read(kept))


def test_states_of_int8_take_a_byte_a_number_and_four_a_token() -> None:
    assert ByteStates().keep(STATES[0]).nbytes == 5 * (WIDTH + 4)


@pytest.mark.parametrize("precision", list(FORMS))
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_states_that_are_not_finite_do_not_become_so(precision: str, wrong: float) -> None:
    states = STATES[0].copy()
    states[1, 2] = wrong
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(FORMS[precision].read(FORMS[precision].keep(states))).all()
