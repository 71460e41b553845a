"""What every re-ranker promises: ordinary, split or late, run as a whole or in two steps."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.models.caches.state_cache import StateCache
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.loading import load_model
from quarry.models.runtime.batcher import PairBatcher
from quarry.models.runtime.runner import Precision
from quarry.models.settings import ModelKind
from quarry.models.torch_modules.late_module import make_late_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.models.two_steps.apart_cross_encoder import ApartCrossEncoder
from quarry.testing import tiny_cross_encoder, tiny_encoder

Model = TransformerCrossEncoder | ApartCrossEncoder
TEXTS = st.text(alphabet="abc deo.,\x00é\ud800中", max_size=60)
PAIRS = [
    *[("the bado", passage) for passage in ("cobe fidu nami", "mo " * 10, "", "a", "the bado")],
    *[(query, "lute of sapo to bine") for query in ("", "gira neli", "tari " * 90)],
    *[("rata", "nolo " * 90), ("sobi " * 90, "de " * 90)],
]
SMALL_BYTES = 3_000
"""Room for the states of about three short texts."""


def _split(folder: Path, states: StateCache, precision: Precision = "fp32") -> Model:
    made = make_split_model(tiny_encoder(folder / "encoder", seed=4), 1, folder / "split")
    return load_cross_encoder(str(made), folder, "cpu", states=states, precision=precision)


def _ordinary(folder: Path, precision: Precision = "fp32") -> Model:
    made = tiny_cross_encoder(folder / "ordinary", seed=2)
    return load_cross_encoder(str(made), folder, "cpu", precision=precision)


def _late(folder: Path, states: StateCache) -> Model:
    made = make_late_model(tiny_encoder(folder / "encoder", seed=4), folder / "late", dimension=12)
    model = load_cross_encoder(str(made), folder, "cpu", states=states)
    assert isinstance(model, ApartCrossEncoder)
    return model


def _as_a_whole(made: Path, folder: Path) -> Model:
    return TransformerCrossEncoder(load_model(str(made), ModelKind.CROSS_ENCODER, folder, "cpu"))


def _split_as_a_whole(folder: Path) -> Model:
    return _as_a_whole(
        make_split_model(tiny_encoder(folder / "encoder", seed=4), 1, folder / "split"), folder
    )


def _late_as_a_whole(folder: Path) -> Model:
    return _as_a_whole(make_late_model(tiny_encoder(folder / "encoder", seed=4), folder / "late", 12), folder)


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
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return KINDS[request.param](tmp_path_factory.mktemp("model"))


def test_each_pair_has_a_finite_score_of_its_own(model: Model) -> None:
    scores = [found.score for found in model.score(PAIRS)]
    assert len(scores) == len(PAIRS)
    assert all(map(math.isfinite, scores))
    assert len({round(score, 3) for score in scores}) > len(PAIRS) // 2


def test_no_pairs_have_no_scores(model: Model) -> None:
    assert model.score([]) == []


def test_cut_texts_are_told(model: Model) -> None:
    assert [found.truncated for found in model.score(PAIRS)] == [False] * 7 + [True] * 3


def test_what_is_beyond_the_cut_is_not_read(model: Model) -> None:
    long, longer = model.score([("rata", "nolo " * 200), ("rata", "nolo " * 200 + "bado " * 50)])
    assert long.score == pytest.approx(longer.score, abs=1e-4)
    assert long.truncated
    assert longer.truncated


@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_a_score_depends_on_its_own_pair_alone(model: Model, pairs: list[tuple[str, str]]) -> None:
    alone = [model.score([pair])[0] for pair in pairs]
    for one, together in zip(alone, model.score(pairs), strict=True):
        assert together.score == pytest.approx(one.score, abs=1e-4)
        assert together.truncated == one.truncated


def test_the_order_of_pairs_does_not_matter(model: Model) -> None:
    order = Random(3).sample(range(len(PAIRS)), len(PAIRS))
    expected = model.score(PAIRS)
    for place, found in zip(order, model.score([PAIRS[place] for place in order]), strict=True):
        assert found.score == pytest.approx(expected[place].score, abs=1e-4)


def test_threads_get_the_same_scores(model: Model) -> None:
    expected = [found.score for found in model.score(PAIRS)]

    def work(seed: int) -> None:
        for _ in range(5):
            some = Random(seed).choices(range(len(PAIRS)), k=6)
            scores = [found.score for found in model.score([PAIRS[place] for place in some])]
            assert scores == pytest.approx([expected[place] for place in some], abs=1e-4)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(16)))


async def test_a_batcher_gives_the_same_scores(model: Model) -> None:
    expected = [found.score for found in model.score(PAIRS)]
    batcher = PairBatcher(model)
    answers = await asyncio.gather(*(batcher.score(PAIRS[start:] + PAIRS[:start]) for start in range(5)))
    batcher.close()
    for start, found in enumerate(answers):
        assert [one.score for one in found] == pytest.approx(expected[start:] + expected[:start], abs=1e-4)
    assert batcher.truncated == 5 * 3
