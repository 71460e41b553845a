"""A split cross-encoder scores alike whether states are kept or not, and keeps them for its versions."""

import errno
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quarry.errors import DiskFullError, ModelError
from quarry.models.caches.state_cache import StateCache
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.export import onnx_graph, separate_export
from quarry.models.loading import load_model
from quarry.models.run_settings import ModelKind, read_json
from quarry.models.runtime.batcher import PairBatcher
from quarry.models.serving import ServedModels
from quarry.models.torch_modules.split_module import (
    SplitModule,
    load_split_module,
    make_split_model,
    save_split_model,
)
from quarry.models.two_steps.split_parts import TOGETHER_FILE
from quarry.models.two_steps.split_tokens import SplitTokenizer
from quarry.models.two_steps.text_reader import APART_FILE
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder
from quarry.testing import make_tiny_encoder

WORDS = [
    "the",
    "of",
    "bado",
    "cobe",
    "fidu",
    "nami",
    "gira",
    "mo",
    "lute",
    "sapo",
    "bine",
    "to",
    "tari",
    "nolo",
]
QUERIES = ["the bado", "gira mo lute"]
PASSAGES = [" ".join(Random(seed).choices(WORDS, k=1 + seed * 3)) for seed in range(7)]
PAIRS = [(query, passage) for query in QUERIES for passage in PASSAGES]
ROOMY = 2**20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def split(data: Path) -> Path:
    return make_split_model(make_tiny_encoder(data / "encoder", seed=5), 1, data / "split")


@pytest.fixture(scope="module")
def load(data: Path) -> Callable[..., TwoStepCrossEncoder]:
    def load(folder: Path, bytes: int = ROOMY, states: StateCache | None = None) -> TwoStepCrossEncoder:
        kept = StateCache(bytes) if states is None else states
        model = load_cross_encoder(str(folder), data, "cpu", states=kept)
        assert isinstance(model, TwoStepCrossEncoder)
        return model

    return load


def scores(
    model: TwoStepCrossEncoder | TransformerCrossEncoder, pairs: Sequence[tuple[str, str]]
) -> list[float]:
    return [found.score for found in model.score(pairs)]


def changed(folder: Path, target: Path, change: Callable[[SplitModule], NDArray[np.float32] | None]) -> Path:
    """A copy of the split model in which some weights are others."""
    module = load_split_module(folder, "eager")
    with torch.no_grad():
        change(module)
    target.mkdir()
    save_split_model(module, read_json(folder / "config.json"), target)
    (target / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    return target


def trained(module: SplitModule) -> None:
    module.damping.sub_(3.0)
    module.log_scale.add_(0.2)
    for parameter in module.list_upper()[0].parameters():
        parameter.mul_(1.3)


class Counted:
    """A graph that counts the texts it is given, one batch at a time: two that run at once and lack the same
    passage both make it."""

    def __init__(self, model: TwoStepCrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts = 0
        model.parallel = 1
        run = model._steps._reader._graph.run

        def counted(inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
            self.texts += len(inputs["input_ids"])
            return run(inputs)

        monkeypatch.setattr(model._steps._reader._graph, "run", counted)


def test_it_scores_as_the_whole_graph_does(
    split: Path, data: Path, load: Callable[..., TwoStepCrossEncoder]
) -> None:
    whole = TransformerCrossEncoder(load_model(str(split), ModelKind.CROSS_ENCODER, data, "cpu"))
    pairs = [*PAIRS, ("", ""), ("bado " * 90, "mo"), ("mo", "sapo " * 90), ("fidu " * 90, "nolo " * 90)]
    model = load(split)
    # Scores are of the order of 20, and states of 32 numbers: rounding tells more than in a real model.
    np.testing.assert_allclose(scores(model, pairs), scores(whole, pairs), atol=2e-3)
    np.testing.assert_allclose(scores(model, pairs), scores(whole, pairs), atol=2e-3)  # from kept states
    assert [one.truncated for one in model.score(pairs)] == [one.truncated for one in whole.score(pairs)]


@pytest.mark.parametrize("bytes", [0, 1, 3_000, ROOMY])
def test_scores_do_not_depend_on_what_is_kept(
    split: Path, load: Callable[..., TwoStepCrossEncoder], bytes: int
) -> None:
    expected = scores(load(split, 0), PAIRS)
    states = StateCache(bytes)
    model = load(split, states=states)
    random = Random(1)
    for size in (1, 3, len(PAIRS), len(PAIRS)):
        some = random.sample(range(len(PAIRS)), size)
        found = scores(model, [PAIRS[place] for place in some])
        np.testing.assert_allclose(found, [expected[place] for place in some], atol=1e-4)
        assert states.kept_bytes <= bytes


def test_states_of_a_passage_are_made_once_and_of_a_query_once_a_request(
    split: Path, load: Callable[..., TwoStepCrossEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(split)
    counted = Counted(model, monkeypatch)
    model.score(PAIRS)
    assert counted.texts == len(QUERIES) + len(PASSAGES)
    model.score(PAIRS[: len(PASSAGES)])
    assert counted.texts == len(QUERIES) + len(PASSAGES) + 1


def test_a_passage_that_was_read_before_is_not_read_again(
    split: Path, load: Callable[..., TwoStepCrossEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(split)
    expected = scores(model, PAIRS)
    read: list[str] = []
    passages = model._tokenizer.encode_passages
    monkeypatch.setattr(
        model._tokenizer, "encode_passages", lambda texts: read.extend(texts) or passages(texts)
    )
    assert scores(model, [*PAIRS, ("mo", "new")])[: len(PAIRS)] == pytest.approx(expected, abs=1e-4)
    assert read == ["new"]


def test_damped_logits_are_those_of_the_whole_graph(
    split: Path, tmp_path: Path, data: Path, load: Callable[..., TwoStepCrossEncoder]
) -> None:
    """The joint graph takes the damping off in another way, which only shows where it is small or uneven."""

    def uneven(module: SplitModule) -> None:
        module.damping.copy_(torch.linspace(-1.0, 2.0, module.damping.numel()).reshape(module.damping.shape))

    other = changed(split, tmp_path / "uneven", uneven)
    whole = TransformerCrossEncoder(load_model(str(other), ModelKind.CROSS_ENCODER, data, "cpu"))
    np.testing.assert_allclose(scores(load(other), PAIRS), scores(whole, PAIRS), atol=2e-3)


def test_versions_with_the_same_lower_layers_share_states(
    split: Path, tmp_path: Path, load: Callable[..., TwoStepCrossEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = changed(split, tmp_path / "later", trained)
    states = StateCache(ROOMY)
    before = scores(load(split, states=states), PAIRS)
    model = load(later, states=states)
    counted = Counted(model, monkeypatch)
    after = scores(model, PAIRS)
    assert counted.texts == len(QUERIES)
    np.testing.assert_allclose(after, scores(load(later), PAIRS), atol=1e-4)
    assert np.abs(np.subtract(before, after)).max() > 0.1


async def test_a_promotion_does_not_start_cold(split: Path, data: Path, tmp_path: Path) -> None:
    models = ServedModels(data, "cpu", states=StateCache(ROOMY))
    kept, hits = [], []
    for folder in (split, changed(split, tmp_path / "later", trained)):
        async with models.use_reranker(str(folder)) as served:
            await served.score(PAIRS[: len(PASSAGES)])
        kept.append(len(models.states))
        hits.append(models.states.hits)
    await models.close()
    assert len(PASSAGES) < kept[0] == kept[1]  # and what it was warmed up with
    assert hits[1] - hits[0] >= kept[0]


@pytest.mark.parametrize("part", ["embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.bias"])
def test_models_with_other_lower_layers_share_nothing(
    split: Path,
    tmp_path: Path,
    load: Callable[..., TwoStepCrossEncoder],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    other = changed(
        split, tmp_path / "other", lambda module: module.transformer.get_parameter(part).add_(0.2)
    )
    states = StateCache(ROOMY)
    load(split, states=states).score(PAIRS)
    model = load(other, states=states)
    counted = Counted(model, monkeypatch)
    found = scores(model, PAIRS)
    assert counted.texts == len(QUERIES) + len(PASSAGES)
    np.testing.assert_allclose(found, scores(load(other), PAIRS), atol=1e-4)


def test_models_with_more_joint_layers_share_nothing(
    split: Path, data: Path, load: Callable[..., TwoStepCrossEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = StateCache(ROOMY)
    model = load(make_split_model(data / "encoder", 2, data / "two"), states=states)
    load(split, states=states).score(PAIRS)
    counted = Counted(model, monkeypatch)
    model.score(PAIRS)
    assert counted.texts == len(QUERIES) + len(PASSAGES)


def test_a_passage_is_read_alike_for_every_query(
    split: Path, load: Callable[..., TwoStepCrossEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(split)
    counted = Counted(model, monkeypatch)
    for query in ("mo", "bado " * 20, "bado " * 90):
        model.score([(query, "sapo " * 90)])
    assert counted.texts == 3 + 1


@pytest.mark.parametrize(
    ("query", "passage", "truncated"),
    [(30, 30, False), (31, 30, True), (30, 31, True), (31, 31, True), (0, 0, False)],
)
def test_each_text_is_cut_by_itself(split: Path, query: int, passage: int, truncated: bool) -> None:
    tokenizer = SplitTokenizer(split / "tokenizer.json", 64)  # 32 for each, of which 2 are special
    (pair,) = tokenizer.encode_pairs([("mo " * query, "mo " * passage)])
    assert pair.truncated == truncated
    assert len(pair) == 4 + min(30, query) + min(30, passage)
    assert pair.types.tolist() == [0] * (2 + min(30, query)) + [1] * (2 + min(30, passage))


def test_a_long_reader_leaves_64_tokens_to_the_query(split: Path) -> None:
    tokenizer = SplitTokenizer(split / "tokenizer.json", 512)
    assert (tokenizer.query_tokens, tokenizer.passage_tokens) == (64, 448)
    with pytest.raises(ModelError, match="no room for"):
        SplitTokenizer(split / "tokenizer.json", 5)


def test_many_threads_get_the_same_scores_from_a_cache_that_is_too_small(
    split: Path, load: Callable[..., TwoStepCrossEncoder]
) -> None:
    expected = scores(load(split, 0), PAIRS)
    states = StateCache(6_000)
    models = [load(split, states=states) for _ in range(2)]

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(10):
            some = random.choices(range(len(PAIRS)), k=random.randint(1, 9))
            found = scores(models[seed % 2], [PAIRS[place] for place in some])
            np.testing.assert_allclose(found, [expected[place] for place in some], atol=1e-4)
            assert states.kept_bytes <= 6_000

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(16)))
    assert states.hits > 0


async def test_pairs_whose_states_are_kept_are_promised_in_less_time(
    split: Path, load: Callable[..., TwoStepCrossEncoder]
) -> None:
    model = load(split)
    batcher = PairBatcher(model)
    assert model.estimate_shares(PAIRS) == [1.0] * len(PAIRS)
    await batcher.score(PAIRS[: len(PASSAGES)])
    assert model.estimate_shares([*PAIRS, ("mo", "new")]) == [0.75] * len(PAIRS) + [1.0]  # 1.5 of 2 layers
    speed = batcher._queues[next(iter(batcher._queues))].throughput.tokens_per_s * model.parallel
    tokens = sum(len(one) for one in model.prepare(PAIRS))
    new = [(query, passage + " new") for query, passage in PAIRS]
    assert batcher.count_fitting(new, 0.8 * tokens / speed) < batcher.count_fitting(
        PAIRS, 0.8 * tokens / speed
    )
    batcher.close()


def test_kept_pairs_count_as_little_work_and_new_ones_as_all(
    split: Path, load: Callable[..., TwoStepCrossEncoder]
) -> None:
    model = load(split)
    cold = model.prepare([PAIRS[3], PAIRS[3 + len(PASSAGES)]])  # two queries, one passage
    assert [pair.work for pair in cold] == [len(pair) for pair in cold]
    model.run(cold)
    assert [pair.work for pair in cold] == [len(cold[0]), len(cold[1]) // 2]
    (warm,) = model.prepare([PAIRS[3]])
    assert warm.work == -(-len(warm) * 3 // 4)
    model.run([warm])
    assert warm.work == len(warm) // 2


def test_states_that_went_meanwhile_are_made_again(
    split: Path, load: Callable[..., TwoStepCrossEncoder]
) -> None:
    states = StateCache(2_500)
    model = load(split, states=states)
    expected = scores(model, PAIRS[:1])
    (pair,) = model.prepare(PAIRS[:1])
    model.score([("mo", "tari " * count) for count in range(1, 30)])
    assert pair.key not in states.find_known([pair.key])
    assert [found.score for found in model.run([pair])] == pytest.approx(expected, abs=1e-4)
    assert pair.work == len(pair)


def test_it_serves_as_a_whole_where_the_parts_do_not_fit(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(separate_export, "HALF_PARITY", -1.0)
    with caplog.at_level(logging.WARNING):
        model = load_cross_encoder(str(split), tmp_path, "cpu", states=StateCache(ROOMY))
    assert isinstance(model, TransformerCrossEncoder)
    assert "run as a whole" in caplog.text
    assert len(model.score(PAIRS)) == len(PAIRS)
    assert not [path for path in tmp_path.rglob("*.onnx") if path.name in (APART_FILE, TOGETHER_FILE)]


def test_a_state_beyond_float16_is_an_error_and_is_not_kept(
    split: Path, load: Callable[..., TwoStepCrossEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = StateCache(ROOMY)
    model = load(split, states=states)
    run = model._steps._reader._graph.run
    monkeypatch.setattr(model._steps._reader._graph, "run", lambda inputs: run(inputs) * 1e6)
    with pytest.raises(ModelError, match="not finite"):
        model.score(PAIRS)
    assert len(states) == 0


def test_a_disk_that_is_full_for_the_parts_leaves_no_export(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without its parts would be served five times as slowly, and nobody would see why."""
    trace = onnx_graph._trace

    def fill(module: Any, inputs: Any, target: Path, per_token: bool) -> None:
        if target.name == TOGETHER_FILE:
            raise OSError(errno.ENOSPC, "No space left on device")
        trace(module, inputs, target, per_token)

    monkeypatch.setattr(onnx_graph, "_trace", fill)
    with pytest.raises(DiskFullError, match="cannot be exported"):
        load_cross_encoder(str(split), tmp_path, "cpu")
    assert [*(tmp_path / "models").glob("*/model.onnx")] == []
