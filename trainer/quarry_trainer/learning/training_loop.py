"""The training loop: transformers' Trainer over groups, with checkpoints, early stopping and progress.

sentence-transformers' trainer is built on the same class; its losses take no weights, no offset and no groups
of unequal size, which is why the class itself is used.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from quarry.jobs.files import write_bytes
from quarry_trainer.data.dataset import BadExamplesError, GroupDataset, TextGroup
from quarry_trainer.learning.anchored_adamw import AnchoredAdamW

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
BEST, MEASURED = "best.safetensors", "measured.json"
WEIGHTS_FILE = "model.safetensors"
WARMUP_SHARE = 0.1
MEASUREMENTS, MEASURED_STEPS = 4, 75
"""Times that the model is measured on development queries while it is trained, and the least steps between
two of them: a measurement costs as much as some ten steps."""
PATIENCE = 2
"""Measurements in a row without a new best after which training stops."""
CHECKPOINT_STEPS = 50

OnStep = Callable[[float, Mapping[str, float]], None]
"""Gets the share done, 0 to 1, and step, steps, loss, learning_rate and development_ndcg as far as known."""
Measure = Callable[[], float]
"""nDCG@10 of the model as it is, on development queries."""


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """The module that is trained, and how it reads its examples.

    Attributes:
        model: from what ``collate`` makes to a dict with the ``loss``, a number.
        collate: some groups to tensors by name.
        parameters: what is trained, as an optimizer takes it.
    """

    model: nn.Module
    collate: Callable[[Sequence[TextGroup]], dict[str, Tensor]]
    parameters: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TrainingLoopSettings:
    """The settings of a training loop.

    Attributes:
        steps: of the optimizer, at least 1.
        groups: read in each step.
        learning_rate: of the weights, at its highest.
        shuffle: False: groups are read in order, as a course from easy to hard wants it.
    """

    steps: int
    groups: int
    seed: int
    learning_rate: float
    shuffle: bool = True


@dataclass(frozen=True, slots=True)
class LoopResult:
    """The result of a training loop.

    Attributes:
        steps: that were made.
        losses: the mean loss of each stretch between two log lines, by its last step.
        measured: nDCG@10 on development queries, by step.
        best: of ``measured``; the model has the weights of that step.
    """

    steps: int
    losses: tuple[tuple[int, float], ...]
    measured: tuple[tuple[int, float], ...]
    best: float | None


def run_loop(
    trainable: Trainable,
    groups: GroupDataset,
    settings: TrainingLoopSettings,
    folder: Path,
    measure: Measure | None,
    on_step: OnStep,
) -> LoopResult:
    """Trains in place; goes on from the last checkpoint in ``folder`` if there is one.

    Raises:
        BadExamplesError: the loss is not finite.
    """
    watch = _Watch(trainable.model, groups, settings, folder, measure, on_step)
    finite = _Finite(trainable.model)
    trainer = _LoopTrainer(
        parameters=trainable.parameters,
        model=finite,
        args=_make_arguments(settings, folder),
        train_dataset=groups,
        data_collator=trainable.collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for progress
    place = _find_checkpoint(folder)
    if place is not None and _read_step(place) >= settings.steps:
        # The trainer would make one step more.
        finite.load_state_dict(load_file(place / WEIGHTS_FILE))
        watch.remember(settings.steps)
    else:
        trainer.train(resume_from_checkpoint=str(place) if place else None)
    watch.restore_best()
    done = max(trainer.state.global_step, _read_step(place) if place else 0)
    return LoopResult(done, tuple(watch.losses), tuple(watch.measured), watch.best)


class _Finite(nn.Module):
    """Refuses to go on from a loss that is not a number."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        made: dict[str, Tensor] = self.model(batch)
        if not torch.isfinite(made["loss"]):
            raise BadExamplesError("the loss is no longer finite: a lower learning rate may help")
        return made


class _LoopTrainer(Trainer):
    """Trainer with the optimizer's groups of parameters given."""

    def __init__(self, parameters: list[dict[str, Any]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._parameters = parameters

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = AnchoredAdamW(self._parameters)
        return self.optimizer


class _Watch(TrainerCallback):
    """Says how training gets on, measures, remembers the best weights, and stops what gets no better."""

    def __init__(
        self,
        model: nn.Module,
        groups: GroupDataset,
        settings: TrainingLoopSettings,
        folder: Path,
        measure: Measure | None,
        on_step: OnStep,
    ) -> None:
        self._model, self._groups, self._settings = model, groups, settings
        self._best_file, self._measured_file = folder / BEST, folder / MEASURED
        self._measure, self._on_step = measure, on_step
        self._every = max(MEASURED_STEPS, math.ceil(settings.steps / MEASUREMENTS))
        self.losses: list[tuple[int, float]] = []
        self.measured: list[tuple[int, float]] = []

    @property
    def best(self) -> float | None:
        return max((value for _, value in self.measured), default=None)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._groups.epoch = int(state.epoch or 0)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.losses.append((state.global_step, float(logs["loss"])))
            self._say(state, logs)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.remember(state.global_step)
        if self._measure is not None and not self.measured:
            self._measure_at(state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step = state.global_step
        if self._measure is None or (step % self._every and step < self._settings.steps):
            return
        self._measure_at(step)
        values = [value for _, value in self.measured]
        if len(values) - 1 - values.index(max(values)) >= PATIENCE:
            control.should_training_stop = True

    def remember(self, until: int) -> None:
        """Remembers what was measured up to this step before.

        What came later is measured again, and alike.
        """
        if until and self._measured_file.exists():
            kept = orjson.loads(self._measured_file.read_bytes())
            self.measured = [(step, value) for step, value in kept if step <= until]

    def restore_best(self) -> None:
        """Puts the weights back that measured best; the last ones stay where nothing was measured."""
        if self.best is not None and self._best_file.exists():
            kept = load_file(self._best_file)
            with torch.no_grad():
                for name, parameter in self._list_trained():
                    parameter.copy_(kept[name])

    def _list_trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self._model.named_parameters() if p.requires_grad)

    def _measure_at(self, step: int) -> None:
        assert self._measure is not None  # noqa: S101  the callers asked
        value, best = self._measure(), self.best
        self.measured.append((step, value))
        if best is None or value > best:
            save_file({name: p.detach().contiguous() for name, p in self._list_trained()}, self._best_file)
        write_bytes(self._measured_file, orjson.dumps(self.measured))

    def _say(self, state: TrainerState, logs: Mapping[str, float]) -> None:
        said = {
            "step": state.global_step,
            "steps": self._settings.steps,
            "loss": float(logs["loss"]),
            "learning_rate": float(logs.get("learning_rate", 0.0)),
        }
        if self.measured:
            said["development_ndcg"] = self.measured[-1][1]
        self._on_step(state.global_step / self._settings.steps, said)


def _make_arguments(settings: TrainingLoopSettings, folder: Path) -> TrainingArguments:
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.groups,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, round(WARMUP_SHARE * settings.steps)),
        max_grad_norm=1.0,
        bf16=on_gpu,  # on a processor, what goes on after a kill would not end at the same weights
        use_cpu=not on_gpu,
        seed=settings.seed % 2**32,
        data_seed=settings.seed % 2**32,
        logging_steps=5,
        save_strategy="steps",
        save_steps=CHECKPOINT_STEPS,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        label_names=["group_weights"],
        report_to="none",
        disable_tqdm=True,
        train_sampling_strategy="random" if settings.shuffle else "sequential",
        logging_nan_inf_filter=False,
    )


def _read_step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _find_checkpoint(folder: Path) -> Path | None:
    """Finds the last checkpoint that is whole: its state is written last. Those that are not are removed."""
    whole: list[Path] = []
    for place in (folder / CHECKPOINTS).glob("checkpoint-*"):
        try:
            TrainerState.load_from_json(str(place / TRAINER_STATE_NAME))
            whole.append(place)
        except (OSError, ValueError, TypeError):
            shutil.rmtree(place, ignore_errors=True)
    return max(whole, key=_read_step, default=None)
