"""A smaller model cut from a larger one: some of its layers, to learn what the whole has learned.

Layers are taken at even distances, the last one always, as DistilBERT's were (Sanh et al., 2019).
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from quarry.errors import InvalidArgumentError, ModelError, OutOfRangeError
from quarry.models.run_settings import read_json
from quarry.storage.private import make_private
from quarry.training.forms import read_model_form

_LAYER = re.compile(r"(.*\bencoder\.layer\.|.*\blayers\.)(\d+)(\..*)")
_WEIGHTS = "model.safetensors"
_NOT_COPIED = ("*.safetensors", "pytorch_model*.bin", "*.onnx", "onnx", "openvino")


def cut_student(base: Path, layers: int, target: Path) -> Path:
    """Writes the cross-encoder in ``base`` with so many of its layers; returns ``target``.

    Of a split one the joint layers stay, and lower ones go.

    Raises:
        InvalidArgumentError: it has fewer layers, or no lower one would be left, or it is a late-interaction
            re-ranker, whose head stands on all layers.
        ModelError: its weights are not in one safetensors file, or its layers have names that are not known.
    """
    form = read_model_form(base)
    if form.late:
        raise InvalidArgumentError("layers", "is for a base with layers to train, and this one has none")
    if not form.joint_layers < layers <= form.layers:
        raise OutOfRangeError("layers", f"{layers} is not {form.joint_layers + 1} to {form.layers}")
    if not (base / _WEIGHTS).exists():
        raise ModelError(f"{base} has no {_WEIGHTS}: a student is cut from one file", path=str(base))
    kept = [*choose_evenly(form.layers - form.joint_layers, layers - form.joint_layers)]
    kept += range(form.layers - form.joint_layers, form.layers)
    number = {old: new for new, old in enumerate(kept)}
    weights = {}
    for name, tensor in load_file(base / _WEIGHTS).items():
        found = _LAYER.fullmatch(name)
        if found is None:
            weights[name] = tensor
        elif (old := int(found[2])) in number:
            weights[f"{found[1]}{number[old]}{found[3]}"] = tensor
    if not any(map(_LAYER.fullmatch, weights)):
        raise ModelError(f"{base} names its layers in a way that is not known", path=str(base))
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(base, target, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    make_private(target)  # whoever may read the base need not read what becomes of it
    save_file(weights, target / _WEIGHTS, metadata={"format": "pt"})
    config = read_json(base / "config.json") | {"num_hidden_layers": layers}
    (target / "config.json").write_text(json.dumps(config, indent=1))
    return target


def choose_evenly(layers: int, wanted: int) -> list[int]:
    """Chooses ``wanted`` of ``layers`` numbers from 0, at even distances, the last one among them."""
    return [int(place) for place in np.round(np.arange(1, wanted + 1) * layers / wanted - 1)]
