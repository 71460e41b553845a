"""Every re-ranker keeps the contract: ordinary, split or late, run as a whole or in two steps."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from quarry.models.caches.state_cache import StateCache
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.loading import load_model
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.batcher import PairBatcher
from quarry.models.runtime.runner import Precision
from quarry.models.torch_modules.late_module import make_late_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.testing.cross_encoder import (
    SHORT_PAIRS,
    TOLERANCE,
    CrossEncoderContract,
    make_long_pairs,
    score_each,
)

Model = TransformerCrossEncoder | TwoStepCrossEncoder
SMALL_BYTES = 3_000
"""Room for the states of about three short texts."""


def _split(folder: Path, states: StateCache, precision: Precision = "fp32") -> Model:
    made = make_split_model(make_tiny_encoder(folder / "encoder", seed=4), 1, folder / "split")
    return load_cross_encoder(str(made), folder, "cpu", states=states, precision=precision)


def _ordinary(folder: Path, precision: Precision = "fp32") -> Model:
    made = make_tiny_cross_encoder(folder / "ordinary", seed=2)
    return load_cross_encoder(str(made), folder, "cpu", precision=precision)


def _late(folder: Path, states: StateCache) -> Model:
    made = make_late_model(make_tiny_encoder(folder / "encoder", seed=4), folder / "late", dimension=12)
    model = load_cross_encoder(str(made), folder, "cpu", states=states)
    assert isinstance(model, TwoStepCrossEncoder)
    return model


def _as_a_whole(made: Path, folder: Path) -> Model:
    return TransformerCrossEncoder(load_model(str(made), ModelKind.CROSS_ENCODER, folder, "cpu"))


def _split_as_a_whole(folder: Path) -> Model:
    return _as_a_whole(
        make_split_model(make_tiny_encoder(folder / "encoder", seed=4), 1, folder / "split"), folder
    )


def _late_as_a_whole(folder: Path) -> Model:
    return _as_a_whole(
        make_late_model(make_tiny_encoder(folder / "encoder", seed=4), folder / "late", 12), folder
    )


KINDS: dict[str, Callable[[Path], Model]] = {
    "ordinary": _ordinary,
    "ordinary in int8": lambda folder: _ordinary(folder, "int8"),
    "split as a whole": _split_as_a_whole,
    "split, no states kept": lambda folder: _split(folder, StateCache(0)),
    "split, few states kept": lambda folder: _split(folder, StateCache(SMALL_BYTES)),
    "split, states kept": lambda folder: _split(folder, StateCache(2**20)),
    "split in int8, no states kept": lambda folder: _split(folder, StateCache(0), "int8"),
    "split in int8, few states kept": lambda folder: _split(folder, StateCache(SMALL_BYTES), "int8"),
    "split in int8, states kept": lambda folder: _split(folder, StateCache(2**20), "int8"),
    "late as a whole": _late_as_a_whole,
    "late, no states kept": lambda folder: _late(folder, StateCache(0)),
    "late, few states kept": lambda folder: _late(folder, StateCache(SMALL_BYTES)),
    "late, states kept": lambda folder: _late(folder, StateCache(2**20)),
}


@pytest.fixture(scope="module", params=list(KINDS))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return KINDS[request.param](tmp_path_factory.mktemp("model"))


class TestCrossEncoders(CrossEncoderContract):
    @pytest.fixture
    def model(self, opened: Model) -> Model:
        return opened


async def test_a_batcher_gives_the_same_scores(opened: Model) -> None:
    pairs = SHORT_PAIRS + make_long_pairs(opened)
    expected = score_each(opened, pairs)
    batcher = PairBatcher(opened)
    answers = await asyncio.gather(*(batcher.score(pairs[start:] + pairs[:start]) for start in range(5)))
    batcher.close()
    for start, found in enumerate(answers):
        assert [one.score for one in found] == pytest.approx(
            expected[start:] + expected[:start], abs=TOLERANCE
        )
    assert batcher.truncated == 5 * 3
