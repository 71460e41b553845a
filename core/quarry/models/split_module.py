"""The split cross-encoder in torch: lower layers read query and passage apart, the upper ones both together.

It starts at the dense order instead of at chance: its score is the cosine of two means, as the encoder's is,
and what a token sees of the other text is damped by a learned amount per head that starts high. After PreTTR
(MacAvaney et al., SIGIR 2020) and DeFormer (Cao et al., ACL 2020), which start at full sight.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, BertModel

from quarry.errors import ModelError
from quarry.models.quiet import quiet
from quarry.models.settings import SPLIT_KEY, read_json

START_SCALE = 20.0
"""Factor of the cosine before training: that of the softmax which such encoders were trained with."""
START_DAMPING = 4.0
"""Before training a token of the other text has ``exp(-4)`` of the attention that it would have: the order is
the encoder's own, and gradients pass."""
DAMPING = "damping"
"""Its name among the weights in the file."""
LOWER_CONFIG = ("hidden_act", "layer_norm_eps", "num_attention_heads")
"""What the lower layers' states depend on beside their weights."""
MASKED = -1e4
"""Added to the attention logit of what a token must not see."""


class SplitModule(nn.Module):
    """Token ids of pairs to scores, shape ``(batch,)``.

    Inputs are ids, mask and types of ``[CLS] query [SEP] [CLS] passage [SEP]``, with types 0 and 1 for the
    two. Types only say which text a token belongs to: each text has its own positions and looks like the
    encoder's own input.

    Attributes:
        layers: all of them; the last ``joint_layers`` read both texts.
        width: of a token's state.
        log_scale: logarithm of the factor of the cosine between the mean states of query and passage.
        damping: shape ``(joint layers, heads)``: taken off the attention logits between the two texts.
    """

    def __init__(self, transformer: nn.Module, joint_layers: int, scale: float = START_SCALE) -> None:
        super().__init__()
        layers = len(transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        if not 0 <= joint_layers <= layers:
            raise ModelError(f"{joint_layers} joint layers: the encoder has {layers}")
        self.transformer = transformer
        self.layers = layers
        self.joint_layers = joint_layers
        self.width: int = transformer.config.hidden_size  # type: ignore[union-attr, assignment]
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())
        heads: int = transformer.config.num_attention_heads  # type: ignore[union-attr, assignment]
        self.damping = nn.Parameter(torch.full((joint_layers, heads), START_DAMPING))

    def forward(self, *inputs: Tensor) -> Tensor:
        input_ids, attention_mask, token_type_ids = inputs
        states = self.apart(input_ids, attention_mask, token_type_ids)
        return self.together(states, attention_mask, token_type_ids)

    def apart(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """States after the lower layers, shape ``(batch, length, width)``; neither text sees the other."""
        first = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
        places = attention_mask.cumsum(1) - 1 - token_type_ids * first
        transformer: Any = self.transformer
        states: Tensor = transformer.embeddings(
            input_ids=input_ids,
            position_ids=places.clamp(min=0),
            token_type_ids=torch.zeros_like(token_type_ids),
        )
        hidden = _additive(_same_text(token_type_ids) & attention_mask[:, None, None, :].bool())
        for layer in self._lower():
            states = _run(layer, states, hidden)
        return states

    def alone(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States of single texts after the lower layers: what ``apart`` makes of either text of a pair."""
        transformer: Any = self.transformer
        states: Tensor = transformer.embeddings(
            input_ids=input_ids,
            position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0),
            token_type_ids=torch.zeros_like(input_ids),
        )
        hidden = _additive(attention_mask[:, None, None, :].bool())
        for layer in self._lower():
            states = _run(layer, states, hidden)
        return states

    def together(self, states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Scores from the states after the lower layers."""
        hidden = _additive(attention_mask[:, None, None, :].bool())
        across = (~_same_text(token_type_ids)).to(states.dtype)
        for layer, damping in zip(self.upper(), self.damping, strict=True):
            states = _run(layer, states, hidden - damping[None, :, None, None] * across)
        return score_of_means(states, attention_mask, token_type_ids, self.log_scale)

    def mean_alone(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean states of single texts after all layers, shape ``(batch, width)``; ``states`` are those after
        the lower ones. What ``together`` takes the cosine of, did neither text see the other."""
        hidden = _additive(attention_mask[:, None, None, :].bool())
        for layer in self.upper():
            states = _run(layer, states, hidden)
        return _mean(states.float(), attention_mask)

    def freeze_lower(self) -> None:
        """Leaves what is below the joint layers as the encoder has it, so that its states can be kept."""
        for part in (self.transformer.embeddings, *self._lower()):
            for parameter in part.parameters():  # type: ignore[union-attr]
                parameter.requires_grad_(False)

    def same_below(self, other: "SplitModule") -> bool:
        """Whether the other's lower layers make the same states of every text."""
        if len(self._lower()) != len(other._lower()):
            return False
        own, others = (
            [p for part in (m.transformer.embeddings, *m._lower()) for p in part.parameters()]  # type: ignore[union-attr]
            for m in (self, other)
        )
        return all(torch.equal(a, b) for a, b in zip(own, others, strict=True))

    def lower_fingerprint(self) -> str:
        """Hex, 32 digits: two models that have the same one make the same states of the same tokens."""
        config = {name: getattr(self.transformer.config, name, None) for name in LOWER_CONFIG}
        digest = hashlib.blake2b(json.dumps(config).encode(), digest_size=16)
        for number, part in enumerate((self.transformer.embeddings, *self._lower())):
            for name, tensor in part.state_dict().items():  # type: ignore[union-attr]
                digest.update(f"{number}.{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _lower(self) -> list[nn.Module]:
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[: len(layers) - self.joint_layers]

    def upper(self) -> list[nn.Module]:
        """The joint layers."""
        layers = list(self.transformer.encoder.layer)  # type: ignore[union-attr, arg-type]
        return layers[len(layers) - self.joint_layers :]


def score_of_means(
    states: Tensor, attention_mask: Tensor, token_type_ids: Tensor, log_scale: Tensor
) -> Tensor:
    """The scaled cosine between the mean states of query and passage."""
    states = states.float()
    query = _mean(states, attention_mask * (1 - token_type_ids))
    passage = _mean(states, attention_mask * token_type_ids)
    scores: Tensor = log_scale.exp() * nn.functional.cosine_similarity(query, passage, dim=-1)
    return scores


def _run(layer: nn.Module, states: Tensor, hidden: Tensor) -> Tensor:
    output = layer(states, hidden)
    made: Tensor = output[0] if isinstance(output, tuple) else output
    return made


def _same_text(token_type_ids: Tensor) -> Tensor:
    """Whether two tokens belong to one text, shape ``(batch, 1, length, length)``."""
    return token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]


def _additive(visible: Tensor) -> Tensor:
    return (~visible).float() * MASKED


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
    with quiet():
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
    weights[DAMPING] = module.damping.detach().contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def load_split_module(folder: Path, attention: str) -> SplitModule:
    """The split cross-encoder in ``folder``. Raises ModelError if weights are missing."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    split = getattr(config, SPLIT_KEY)
    config._attn_implementation = attention
    transformer = BertModel(config, add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    damping = weights.pop(DAMPING, None)
    found = transformer.load_state_dict(weights, strict=False)
    if damping is None:
        raise ModelError(f"{folder} lacks weights, and would answer at random: {DAMPING}")
    if missing := sorted(found.missing_keys):
        raise ModelError(f"{folder} lacks weights, and would answer at random: {', '.join(missing[:5])}")
    module = SplitModule(transformer, int(split["joint_layers"]), float(split["scale"]))
    with torch.no_grad():
        module.damping.copy_(damping)
    return module.eval()


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
