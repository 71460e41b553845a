"""The forms of re-ranker that can be trained, behind one interface.

An ordinary cross-encoder reads both texts in all its layers. Of a split one only the upper ones are trained,
and of a late-interaction one what is on top of all layers: what lies below makes the same of a text for ever,
so it is computed once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from quarry.models.base import PairScore
from quarry.models.export.onnx_export import TOKENIZER_FILE
from quarry.models.run_settings import ModelKind, ModelRunSettings, read_json, read_settings
from quarry.models.runtime.packing import make_arrays
from quarry.models.tokenization import TextTokenizer
from quarry.models.torch_modules.late_module import LateModule, make_late_model
from quarry.models.torch_modules.progress_bars import hide_progress_bars
from quarry.models.torch_modules.separate_files import copy_tokenizer
from quarry.models.torch_modules.split_module import SplitModule, make_split_model, save_split_model
from quarry.models.torch_modules.torch_model import load_module
from quarry.training.forms import FormName, read_model_form
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.text_states import TextStates

Pair = tuple[str, str]
SCORING_BATCH = 64
DAMPING_RATE = 1_000.0
"""Learning rate of the damping, in times of the weights': it has a long way to go in few steps."""


class Form(Protocol):
    """A cross-encoder in training."""

    @property
    def module(self) -> nn.Module:
        """From ``inputs`` to scores, shape ``(n,)``."""
        ...

    def make_inputs(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Makes what the module reads of (query, passage) pairs."""
        ...

    def list_parameter_groups(self, learning_rate: float, decay: float) -> list[dict[str, Any]]:
        """Lists what is trained, as an optimizer takes it."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the model as it can be served."""
        ...


@runtime_checkable
class OfStates(Protocol):
    """A form that is trained on states of texts."""

    states: TextStates


def open_form(folder: Path, max_tokens: int, seed: int, like: Form | None = None) -> Form:
    """Opens the cross-encoder in ``folder``, to read passages of at most ``max_tokens``.

    Args:
        like: one whose states are shared, if its lower layers are the same.

    Raises:
        ModelError: it is no cross-encoder.
    """
    settings = read_settings(folder, ModelKind.CROSS_ENCODER)
    torch.manual_seed(seed)
    module = load_module(folder, settings)
    form: Form
    if isinstance(module, SplitModule):
        form = SplitForm(folder, settings, module, max_tokens)
    elif isinstance(module, LateModule):
        form = LateForm(folder, settings, module, max_tokens)
    else:
        form = OrdinaryForm(folder, settings, module, max_tokens)
    if isinstance(form, OfStates) and isinstance(like, OfStates):
        form.states.share(like.states)
    return form


def start_folder(base: Path, form: FormName, joint_layers: int, target: Path) -> Path:
    """Starts a folder that ``open_form`` can open: ``base``, or a re-ranker of ``form`` made of the encoder
    there.

    Raises:
        ModelError: a split or late one is asked for, and the encoder is no BERT, or has fewer layers.
    """
    if read_model_form(base).kind is ModelKind.CROSS_ENCODER:
        return base
    if form == "cross":
        return make_cross_encoder(base, target)
    if form == "late":
        return make_late_model(base, target)
    return make_split_model(base, joint_layers, target)


def make_cross_encoder(encoder: Path, target: Path) -> Path:
    """Writes an untrained cross-encoder with the layers of the encoder in ``encoder``; returns ``target``.

    Its head is new, so it orders by chance until it is trained.
    """
    settings = read_settings(encoder, ModelKind.ENCODER)
    with hide_progress_bars():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder / settings.weights, num_labels=1, local_files_only=True
        )
        model.save_pretrained(target)
    copy_tokenizer(encoder, target)
    return target


class OrdinaryForm:
    """A cross-encoder of Hugging Face's layout, all layers trained."""

    def __init__(self, folder: Path, settings: ModelRunSettings, module: nn.Module, max_tokens: int) -> None:
        self.module = _ByName(module)
        self._inner, self._folder, self._settings = module, folder, settings
        self._tokenizer = TextTokenizer(folder / TOKENIZER_FILE, min(settings.max_tokens, max_tokens))

    def make_inputs(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        settings = self._settings
        made = make_arrays(self._tokenizer.encode_pairs(pairs), settings.pad_id, settings.token_types)
        return {name: torch.from_numpy(values) for name, values in made.items()}

    def list_parameter_groups(self, learning_rate: float, decay: float) -> list[dict[str, Any]]:
        return _split_by_decay(self.module.named_parameters(), learning_rate, decay)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        transformer: Any = self._inner.transformer
        transformer.save_pretrained(folder)
        copy_tokenizer(self._folder, folder)


class SplitForm:
    """A split cross-encoder, the joint layers trained.

    Attributes:
        split: the whole of it; ``module`` is the part that reads states of pairs.
        states: that it reads.
    """

    def __init__(
        self, folder: Path, settings: ModelRunSettings, module: SplitModule, max_tokens: int
    ) -> None:
        self.split, self._folder = module, folder
        self.states = TextStates(module, folder, settings, max_tokens)
        self.module = _Together(module)

    def make_inputs(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """States after the lower layers, shape ``(n, length, width)``, and whose each is."""
        queries = self.states.read_queries([query for query, _ in pairs])
        passages = self.states.read_passages([passage for _, passage in pairs])
        rows = [(queries[query], passages[passage]) for query, passage in pairs]
        length = max(len(query) + len(passage) for query, passage in rows)
        states = torch.zeros(len(rows), length, rows[0][0].shape[1])
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        types = torch.zeros_like(mask)
        for row, (query, passage) in enumerate(rows):
            end = len(query) + len(passage)
            states[row, : len(query)], states[row, len(query) : end] = query.float(), passage.float()
            mask[row, :end], types[row, len(query) : end] = 1, 1
        return {"states": states, "attention_mask": mask, "token_type_ids": types}

    def list_parameter_groups(self, learning_rate: float, decay: float) -> list[dict[str, Any]]:
        own = {"split.damping", "split.log_scale"}
        weights = [(name, p) for name, p in self.module.named_parameters() if name not in own]
        fast = {"params": [self.split.damping], "lr": DAMPING_RATE * learning_rate, "weight_decay": 0.0}
        scale = {"params": [self.split.log_scale], "lr": 10 * learning_rate, "weight_decay": 0.0}
        return [*_split_by_decay(iter(weights), learning_rate, decay), fast, scale]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_split_model(self.split, read_json(self._folder / "config.json"), folder)
        copy_tokenizer(self._folder, folder)


class FormScorer:
    """A model in training as a ``CrossEncoder``, to be measured as it is. Blocks."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def score(self, pairs: Sequence[Pair]) -> list[PairScore]:
        device = next(self._form.module.parameters()).device
        order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][0]) + len(pairs[place][1]))
        found = [0.0] * len(pairs)
        training = self._form.module.training
        self._form.module.eval()
        with torch.no_grad():
            for start in range(0, len(order), SCORING_BATCH):
                some = order[start : start + SCORING_BATCH]
                inputs = self._form.make_inputs([pairs[place] for place in some])
                scores = self._form.module(**{name: value.to(device) for name, value in inputs.items()})
                for place, score in zip(some, scores.float().tolist(), strict=True):
                    found[place] = score
        self._form.module.train(training)
        return [PairScore(score, False) for score in found]


class _ByName(nn.Module):
    """Takes a cross-encoder's inputs by name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **inputs: Tensor) -> Tensor:
        scores: Tensor = self.inner(*inputs.values())
        return scores


class _Together(nn.Module):
    """The part of a split cross-encoder that is trained."""

    def __init__(self, split: SplitModule) -> None:
        super().__init__()
        self.split = split

    def forward(self, states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.split.score_states(states, attention_mask, token_type_ids)


def _split_by_decay(
    parameters: Iterator[tuple[str, nn.Parameter]], learning_rate: float, decay: float
) -> list[dict[str, Any]]:
    """Splits parameters: weights decay; biases and norms, which have one axis, do not."""
    trained = [p for _, p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "lr": learning_rate, "weight_decay": decay},
        {"params": [p for p in trained if p.dim() <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
