"""The loop: it learns, goes on after a kill as if nothing had been, stops in time, refuses NaN."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quarry_trainer.data.dataset import BadExamplesError, GroupDataset, TextGroup
from quarry_trainer.learning.training_loop import (
    CHECKPOINTS,
    LoopResult,
    Trainable,
    TrainingLoopSettings,
    run_loop,
)

STEPS = 20


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures so short a training as often as a long one."""
    monkeypatch.setattr("quarry_trainer.learning.training_loop.MEASURED_STEPS", 1)


class Line(nn.Module):
    """Learns y = 3 x; a group's weight is its x."""

    def __init__(self, poison: int = -1) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))
        self.seen: list[list[float]] = []
        self._poison = poison

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append(batch["group_weights"].tolist())
        loss = ((self.slope - 3) ** 2 * batch["group_weights"]).mean()
        return {"loss": loss * torch.nan if len(self.seen) == self._poison else loss}


def groups() -> GroupDataset:
    made = [
        TextGroup("q", ("1", "2"), ("a", "b"), (0.0, 0.0), (True, False), (1.0, 1.0), 0.5 + n / 10)
        for n in range(12)
    ]
    return GroupDataset(made, 8, seed=1)


def collate(some: list[TextGroup]) -> dict[str, Tensor]:
    return {"group_weights": torch.tensor([group.weight for group in some])}


def run(
    model: Line,
    folder: Path,
    measure: Callable[[], float] | None = None,
    on_step: Callable[[float, Mapping[str, float]], None] = lambda _share, _said: None,
    steps: int = STEPS,
) -> LoopResult:
    parameters = [{"params": [model.slope], "lr": 0.2, "weight_decay": 0.0}]
    trainable = Trainable(model, collate, parameters)  # type: ignore[arg-type]
    return run_loop(trainable, groups(), TrainingLoopSettings(steps, 4, 7, 0.2), folder, measure, on_step)


def test_it_learns_and_says_how_it_gets_on(tmp_path: Path) -> None:
    said: list[tuple[float, Mapping[str, float]]] = []
    model = Line()
    result = run(model, tmp_path, on_step=lambda share, details: said.append((share, details)))
    assert result.steps == STEPS
    assert abs(model.slope.item() - 3) < 2
    assert [share for share, _ in said] == [0.25, 0.5, 0.75, 1.0]
    assert said[0][1]["steps"] == STEPS
    assert said[-1][1]["loss"] < said[0][1]["loss"]


def test_one_that_was_killed_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarry_trainer.learning.training_loop.CHECKPOINT_STEPS", 5)
    whole = Line()
    run(whole, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(share: float, _details: Mapping[str, float]) -> None:
        if share >= 0.6:
            raise Killed

    with pytest.raises(Killed):
        run(Line(), tmp_path / "killed", on_step=kill)
    assert (tmp_path / "killed" / CHECKPOINTS / "checkpoint-10").is_dir()
    resumed = Line()
    run(resumed, tmp_path / "killed")
    assert len(resumed.seen) == STEPS - 10
    assert resumed.seen == whole.seen[10:]
    assert resumed.slope.item() == pytest.approx(whole.slope.item(), abs=1e-6)


def test_a_checkpoint_that_was_cut_short_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry_trainer.learning.training_loop.CHECKPOINT_STEPS", 5)
    run(Line(), tmp_path)
    (last,) = (tmp_path / CHECKPOINTS).glob("checkpoint-*")
    torn = last.with_name("checkpoint-25")
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half of it")
    (tmp_path / CHECKPOINTS / "checkpoint-30").mkdir()
    (tmp_path / CHECKPOINTS / "checkpoint-30" / "trainer_state.json").write_text('{"epoch":')
    resumed = Line()
    assert run(resumed, tmp_path, steps=STEPS).steps == STEPS
    assert resumed.seen == []  # the whole one was the end
    assert not torn.exists()


def test_the_best_is_remembered_over_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarry_trainer.learning.training_loop.CHECKPOINT_STEPS", 5)
    model = Line()
    values = iter([0.5, 0.9, 0.6])
    best: list[float] = []

    def measure() -> float:
        best.append(model.slope.item())
        return next(values)

    with pytest.raises(StopIteration):  # ends the process in the middle
        run(model, tmp_path, lambda: measure() if len(best) < 3 else next(iter(())))
    resumed = Line()
    later = iter([0.6, 0.6])
    result = run(resumed, tmp_path, lambda: next(later))
    assert [value for _, value in result.measured] == [0.5, 0.9, 0.6, 0.6]
    assert result.best == 0.9
    assert resumed.slope.item() == pytest.approx(best[1])


def test_it_stops_when_nothing_gets_better_and_keeps_the_best(tmp_path: Path) -> None:
    model = Line()
    values = iter([0.5, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6])
    slopes: list[float] = []

    def measure() -> float:
        slopes.append(model.slope.item())
        return next(values)

    result = run(model, tmp_path, measure)
    assert [value for _, value in result.measured] == [0.5, 0.7, 0.6, 0.6]
    assert result.steps < STEPS
    assert result.best == 0.7
    assert model.slope.item() == pytest.approx(slopes[1])
    assert model.slope.item() != pytest.approx(slopes[-1])


def test_a_model_that_only_gets_worse_is_left_as_it_was(tmp_path: Path) -> None:
    model = Line()
    values = iter([0.5, 0.4, 0.3])
    run(model, tmp_path, lambda: next(values))
    assert model.slope.item() == 0.0


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    with pytest.raises(BadExamplesError, match="no longer finite"):
        run(Line(poison=3), tmp_path)


def test_the_same_seed_reads_the_same(tmp_path: Path) -> None:
    first, second = Line(), Line()
    run(first, tmp_path / "1")
    run(second, tmp_path / "2")
    assert first.seen == second.seen
