"""The split cross-encoder in torch: lower layers read query and passage apart, the upper ones both together.

It starts near the dense order instead of at chance, since with no joint layer its score is the encoder's
cosine. After PreTTR (MacAvaney et al., SIGIR 2020) and DeFormer (Cao et al., ACL 2020).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, BertModel

from quarry.errors import ModelError
from quarry.models.settings import SPLIT_KEY, read_json

START_SCALE = 20.0
"""Factor of the cosine before training: that of the softmax which such encoders were trained with."""
_MASKED = -1e4


class SplitModule(nn.Module):
    """Token ids of pairs to scores, shape ``(batch,)``.

    Inputs are ``[CLS] query [SEP] [CLS] passage [SEP]``, with token types 0 and 1 for the two. Types only say
    which text a token belongs to: each text has its own positions and looks like the encoder's own input.

    Attributes:
        scale: factor of the cosine between the mean states of query and passage; over 0.
    """

    def __init__(self, transformer: nn.Module, joint_layers: int, scale: float = START_SCALE) -> None:
        super().__init__()
        layers = len(transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        if not 0 <= joint_layers <= layers:
            raise ModelError(f"{joint_layers} joint layers: the encoder has {layers}")
        self.transformer = transformer
        self.joint_layers = joint_layers
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        states = self.apart(input_ids, attention_mask, token_type_ids)
        return self.together(states, attention_mask, token_type_ids)

    def apart(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """States after the lower layers, shape ``(batch, length, width)``; neither text sees the other."""
        first = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
        places = attention_mask.cumsum(1) - 1 - token_type_ids * first
        transformer: Any = self.transformer
        states = transformer.embeddings(
            input_ids=input_ids,
            position_ids=places.clamp(min=0),
            token_type_ids=torch.zeros_like(token_type_ids),
        )
        same = token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]
        hidden = _additive(same & attention_mask[:, None, None, :].bool())
        return self._run(states, hidden, self._lower())

    def together(self, states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Scores from the states after the lower layers."""
        hidden = _additive(attention_mask[:, None, None, :].bool())
        states = self._run(states, hidden, self._upper()).float()
        query = _mean(states, attention_mask * (1 - token_type_ids))
        passage = _mean(states, attention_mask * token_type_ids)
        return self.log_scale.exp() * nn.functional.cosine_similarity(query, passage, dim=-1)

    def freeze_lower(self) -> None:
        """Leaves what is below the joint layers as the encoder has it, so that its states can be kept."""
        for part in (self.transformer.embeddings, *self._lower()):
            for parameter in part.parameters():  # type: ignore[union-attr]
                parameter.requires_grad_(False)

    def _lower(self) -> list[nn.Module]:
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[: len(layers) - self.joint_layers]

    def _upper(self) -> list[nn.Module]:
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[len(layers) - self.joint_layers :]

    @staticmethod
    def _run(states: Tensor, hidden: Tensor, layers: list[nn.Module]) -> Tensor:
        for layer in layers:
            output = layer(states, hidden)
            states = output[0] if isinstance(output, tuple) else output
        return states


def _additive(visible: Tensor) -> Tensor:
    return (~visible).float() * _MASKED


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def make_split_model(encoder: Path, joint_layers: int, target: Path) -> Path:
    """Writes an untrained split cross-encoder made of the encoder in ``encoder``; returns ``target``.

    Raises:
        ModelError: the encoder is no BERT, or has fewer layers.
    """
    config = read_json(encoder / "config.json")
    if config.get("model_type") != "bert":
        raise ModelError(f"a split cross-encoder is made of a BERT, not of {config.get('model_type')}")
    transformer = BertModel.from_pretrained(encoder, add_pooling_layer=False, local_files_only=True)
    target.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(encoder, target)
    save_split_model(SplitModule(transformer, joint_layers), config, target)
    return target


def save_split_model(module: SplitModule, config: dict[str, Any], target: Path) -> None:
    """Writes weights and config; the tokenizer is there already."""
    split = {"joint_layers": module.joint_layers, "scale": float(module.log_scale.detach().exp())}
    labels = {"id2label": {"0": "score"}, "label2id": {"score": 0}}
    kept = {key: value for key, value in config.items() if key not in ("architectures", *labels)}
    (target / "config.json").write_text(json.dumps({**kept, **labels, SPLIT_KEY: split}, indent=1))
    weights = {name: tensor.contiguous() for name, tensor in module.transformer.state_dict().items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def load_split_module(folder: Path, attention: str) -> SplitModule:
    """The split cross-encoder in ``folder``. Raises ModelError if weights are missing."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    split = getattr(config, SPLIT_KEY)
    config._attn_implementation = attention
    transformer = BertModel(config, add_pooling_layer=False)
    found = transformer.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    if missing := sorted(found.missing_keys):
        raise ModelError(f"{folder} lacks weights, and would answer at random: {', '.join(missing[:5])}")
    return SplitModule(transformer, int(split["joint_layers"]), float(split["scale"])).eval()


def _write_tokenizer(encoder: Path, target: Path) -> None:
    """The encoder's tokenizer, framing two texts each as it frames one."""
    source = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))
    frame = source["post_processor"]
    if frame is None or frame["type"] != "TemplateProcessing":
        raise ModelError(f"{encoder} frames texts in a way that cannot be doubled")
    second = json.loads(json.dumps(frame["single"]).replace('"id": "A"', '"id": "B"'))
    for piece in second:
        next(iter(piece.values()))["type_id"] = 1
    frame["pair"] = [*frame["single"], *second]
    (target / "tokenizer.json").write_text(json.dumps(source, ensure_ascii=False), encoding="utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (encoder / name).exists():
            shutil.copyfile(encoder / name, target / name)
