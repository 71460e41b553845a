import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.damage import flip_bytes

from quarry.errors import ModelDamagedError, ModelError
from quarry.models.encoder import TransformerEncoder, load_encoder
from quarry.models.export import onnx_export, onnx_graph
from quarry.models.run_settings import ModelKind, read_settings
from quarry.models.runtime.torch_runner import TorchRunner
from quarry.models.sources.fingerprint import _read, _save
from quarry.storage.sealed_files import find_damage

SERVE = """
import sys
from pathlib import Path
from quarry.models.encoder import load_encoder
load_encoder(sys.argv[1], Path(sys.argv[2])).encode(["a"])
sys.exit("torch" in sys.modules or "transformers" in sys.modules)
"""


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_serving_from_an_export_imports_no_torch(
    encoder: TransformerEncoder, encoder_folder: Path, data_folder: Path
) -> None:
    arguments = [sys.executable, "-c", SERVE, str(encoder_folder), str(data_folder)]
    assert subprocess.run(arguments, check=False, timeout=60).returncode == 0


def test_a_second_start_uses_the_export(
    encoder: TransformerEncoder, encoder_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_export", None)
    assert load_encoder(str(encoder_folder), data_folder, "cpu").info == encoder.info


DAMAGE: dict[str, Callable[[Path], None]] = {
    "graph flipped": lambda export: flip_bytes(export / "model.onnx"),
    "graph cut short": lambda export: os.truncate(export / "model.onnx", 1_000),
    "graph deleted": lambda export: (export / "model.onnx").unlink(),
    "tokenizer flipped": lambda export: flip_bytes(export / "tokenizer.json", 1),
    "settings changed": lambda export: _edit(export / "quarry.json", dimension=7),
    "manifest deleted": lambda export: (export / "manifest.json").unlink(),
    "everything deleted": lambda export: [path.unlink() for path in export.iterdir()],  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_export_is_made_again(
    encoder: TransformerEncoder, encoder_folder: Path, data_folder: Path, tmp_path: Path, damage: str
) -> None:
    made = data_folder / "models" / encoder.info.fingerprint
    export = shutil.copytree(made, tmp_path / "models" / made.name)
    DAMAGE[damage](export)
    again = load_encoder(str(encoder_folder), tmp_path, "cpu")
    assert again.info == encoder.info
    assert np.array_equal(again.encode(["zinc barata"]), encoder.encode(["zinc barata"]))
    assert find_damage(export / "manifest.json") == ""
    assert [path.name for path in (tmp_path / "models").iterdir() if path.name.startswith(".")] == []


def test_a_damaged_export_of_a_version_is_made_again_beside_it(encoder_folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(encoder_folder, tmp_path / "registry" / "1" / "1" / "model")
    first = load_encoder("faq@1", tmp_path, "cpu", model)
    graph = tmp_path / "registry" / "1" / "1" / "export" / first.info.fingerprint / "model.onnx"
    whole = graph.read_bytes()
    flip_bytes(graph)
    again = load_encoder("faq@1", tmp_path, "cpu", model)
    assert np.array_equal(again.encode(["zinc barata"]), first.encode(["zinc barata"]))
    assert graph.read_bytes() == whole


def test_an_export_is_not_made_of_weights_that_have_changed(encoder_folder: Path, tmp_path: Path) -> None:
    settings = read_settings(encoder_folder, ModelKind.ENCODER)
    with pytest.raises(ModelDamagedError, match="have changed although"):
        onnx_export.ensure_export(encoder_folder, settings, tmp_path / "x", "0" * 32)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


def test_a_damaged_hash_of_weights_is_forgotten(tmp_path: Path) -> None:
    _save(tmp_path / "hashes.json", {"a": "0" * 32, "b": "1" * 32})
    kept = tmp_path / "hashes.json"
    kept.write_text(kept.read_text().replace("1" * 32, "1" * 31 + "2"))
    assert _read(kept) == {"a": "0" * 32}


def test_an_export_that_differs_from_torch_is_not_kept(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "PARITY", -1.0)
    with pytest.raises(ModelError, match="differs from torch"):
        load_encoder(str(encoder_folder), tmp_path, "cpu")
    assert not [path for path in (tmp_path / "models").iterdir() if path.is_dir()]


def test_an_export_is_in_float32_under_autocast(
    encoder: TransformerEncoder, encoder_folder: Path, tmp_path: Path
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        other = load_encoder(str(encoder_folder), tmp_path, "cpu")
    assert np.array_equal(other.encode(["zinc barata"]), encoder.encode(["zinc barata"]))


def test_the_newer_exporter_takes_over_where_tracing_fails(
    encoder: TransformerEncoder, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("tracing is gone")

    monkeypatch.setattr(onnx_graph, "_trace", fail)
    other = load_encoder(str(encoder_folder), tmp_path, "cpu")
    texts = ["bado", "the ceda of nolo"]
    assert np.abs(other.encode(texts) - encoder.encode(texts)).max() <= 1e-4


def test_threads_that_want_an_export_at_once_all_get_it(encoder_folder: Path, tmp_path: Path) -> None:
    settings = read_settings(encoder_folder, ModelKind.ENCODER)
    with ThreadPoolExecutor(3) as pool:
        made = list(
            pool.map(lambda _: onnx_export.ensure_export(encoder_folder, settings, tmp_path / "x"), range(3))
        )
    assert made == [tmp_path / "x"] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.lock"}


def test_the_first_token_is_the_vector_where_the_model_says_so(
    encoder: TransformerEncoder, encoder_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(encoder_folder, tmp_path / "cls")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    other = load_encoder(str(folder), tmp_path / "data", "cpu")
    assert other.info.fingerprint != encoder.info.fingerprint
    assert np.abs(other.encode(["the ceda"]) - encoder.encode(["the ceda"])).max() > 1e-2


def test_torch_gives_the_same_vectors(encoder: TransformerEncoder, encoder_folder: Path) -> None:
    settings = read_settings(encoder_folder, ModelKind.ENCODER)
    inputs = onnx_graph.draw_tokens(settings, (3, 20), seed=0, vocabulary=100)
    got = TorchRunner(encoder_folder, settings, "cpu").run(inputs)
    assert np.abs(got - encoder._model.runner.run(inputs)).max() <= 1e-4


@pytest.mark.parametrize(
    ("file", "values", "problem"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "pools by 'max'"),
        ("config_sentence_transformers.json", {"prompts": {"query": "query: "}}, "prompts"),
        ("config.json", {"model_type": "no-such-type"}, "cannot be loaded"),
    ],
)
def test_what_is_not_supported_is_refused(
    encoder_folder: Path, tmp_path: Path, file: str, values: dict[str, object], problem: str
) -> None:
    folder = shutil.copytree(encoder_folder, tmp_path / "model")
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    _edit(folder / file, **values)
    with pytest.raises(ModelError, match=problem):
        load_encoder(str(folder), tmp_path / "data", "cpu")


def test_a_module_that_is_not_known_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder_folder, tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="Dense"):
        load_encoder(str(folder), tmp_path / "data", "cpu")


def test_weights_that_are_missing_are_not_made_up(cross_encoder_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(cross_encoder_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    settings = read_settings(folder, ModelKind.CROSS_ENCODER)
    with pytest.raises(ModelError, match="classifier"):
        onnx_export.ensure_export(folder, settings, tmp_path / "x")
