"""What a config asks for is held against its weights before anything is built."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from quarry.errors import ModelError
from quarry.models.run_settings import MAX_JSON_BYTES, ModelKind, read_settings
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder

BERT_BASE: dict[str, Any] = {
    "model_type": "bert", "vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 3_072, "max_position_embeddings": 512,
    "type_vocab_size": 2, "num_labels": 1,
}  # fmt: skip


def model(folder: Path, config: Any, weights_bytes: int = 440_000_000) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(weights_bytes)
    return folder


@pytest.mark.parametrize(
    ("changes", "weights_bytes"),
    [
        ({}, 440_000_000),
        ({"torch_dtype": "float16"}, 220_000_000),
        (  # ALBERT xxlarge shares the weights of its layers
            {
                "model_type": "albert", "num_hidden_groups": 1, "hidden_size": 4_096,
                "intermediate_size": 16_384, "embedding_size": 128, "vocab_size": 30_000,
            },
            890_000_000,
        ),
        (  # ModernBERT has no weights for its positions
            {"num_hidden_layers": 22, "intermediate_size": 1_152, "max_position_embeddings": 131_072},
            600_000_000,
        ),
        ({"vocab_size": 250_002, "num_hidden_layers": 24, "hidden_size": 1_024}, 2_200_000_000),
    ],
)  # fmt: skip
def test_models_as_they_are_are_accepted(tmp_path: Path, changes: Any, weights_bytes: int) -> None:
    folder = model(tmp_path / "m", BERT_BASE | changes, weights_bytes)
    assert read_settings(folder, ModelKind.CROSS_ENCODER).kind is ModelKind.CROSS_ENCODER


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_hidden_layers": 100_000}, "'num_hidden_layers'"),
        ({"n_layers": 100_000}, "'n_layers'"),
        ({"num_local_experts": 100_000}, "'num_local_experts'"),
        ({"depths": [3, 4, 1_000_000]}, "'depths'"),
        ({"text_config": {"decoder_layers": 10_000}}, "'decoder_layers'"),
        ({"num_labels": 10**9}, "'num_labels'"),
        ({"vocab_size": 2**40}, "parameters"),
        ({"vocab_size": 10**400}, "parameters"),
        ({"hidden_size": 1_000_000}, "parameters"),
        ({"max_position_embeddings": 10**9}, "parameters"),
        ({"intermediate_size": 10**9}, "parameters"),
        ({"encoder": {"d_model": 10**6, "vocab_size": 10**6}}, "parameters"),
        ({"hidden_size": "768"}, "no size"),
        ({"vocab_size": -1}, "no size"),
        ({"num_hidden_layers": True}, "no size"),
    ],
)
def test_what_the_weights_cannot_hold_is_refused_at_once(tmp_path: Path, changes: Any, told: str) -> None:
    folder = model(tmp_path / "m", BERT_BASE | changes)
    begun_s = time.thread_time()
    for kind in ModelKind:
        with pytest.raises(ModelError, match=told):
            read_settings(folder, kind)
    assert time.thread_time() - begun_s < 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "levels deep"),
        ("[1]", "not a JSON object"),
        ('"x"', "not a JSON object"),
        (" " * MAX_JSON_BYTES + "{}", "bytes"),
    ],
)
def test_json_that_no_config_is_is_refused(tmp_path: Path, config: str, told: str) -> None:
    with pytest.raises(ModelError, match=told) as raised:
        read_settings(model(tmp_path / "m", config), ModelKind.CROSS_ENCODER)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("path", ["/etc", "../other", "a/../../other"])
def test_a_module_outside_of_the_model_is_refused(tmp_path: Path, path: str) -> None:
    folder = make_tiny_encoder(tmp_path / "m", seed=1)
    modules = [{"path": path, "type": "sentence_transformers.models.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="outside of it"):
        read_settings(folder, ModelKind.ENCODER)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("modules.json", '{"a": 1}'),
        ("modules.json", "[1]"),
        (
            "modules.json",
            '[{"path": "", "type": "x.Transformer"}, {"path": "", "type": "\\u001b%s"}]' % ("y" * 999),
        ),
        ("1_Pooling/config.json", "[]"),
        ("1_Pooling/config.json", '{"pooling_mode": [1, {}]}'),
        ("1_Pooling/config.json", '{"pooling_mode": "%s"}' % ("y" * 999)),
        ("sentence_bert_config.json", "[1]"),
        ("config_sentence_transformers.json", '{"prompts": {"%s": "x"}}' % ("y" * 999)),
    ],
)
def test_settings_that_are_something_else_are_typed_and_not_repeated(
    tmp_path: Path, file: str, content: str
) -> None:
    folder = make_tiny_encoder(tmp_path / "m", seed=1)
    (folder / file).write_text(content)
    with pytest.raises(ModelError) as raised:
        read_settings(folder, ModelKind.ENCODER)
    assert len(str(raised.value)) < 300 + len(str(folder))
    assert "\x1b" not in str(raised.value)


def test_the_models_of_the_tests_are_accepted(tmp_path: Path) -> None:
    read_settings(make_tiny_encoder(tmp_path / "e", seed=1), ModelKind.ENCODER)
    read_settings(make_tiny_cross_encoder(tmp_path / "c", seed=1), ModelKind.CROSS_ENCODER)
