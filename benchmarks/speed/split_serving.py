"""Time to re-rank 50 passages of 128 tokens, in times of sentence-transformers' ``CrossEncoder.predict``.

All models have the body of the default encoder; heads are made from a seed or not trained, for speed does not
depend on what they learned (what int8 costs in nDCG@10: ``split_quality.py``). Every round has passages of
its own, which all configurations score in turn. States that one of them is to find are made before, for
another query; scores that it is to find, for the same pairs. Both sides read texts themselves. Beside other
work wall times favour what waits for both cores least: the processor's time is given as well, and compared
with torch on one thread.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from rerank_throughput import cross_encoder
from serving import available, corpus, load_average, queries

from quarry.errors import ModelError
from quarry.models.base import PairScore
from quarry.models.blend import RERANKER_ALONE
from quarry.models.caches.score_cache import ScoreCache
from quarry.models.caches.state_cache import StateCache
from quarry.models.caches.state_store import StateStore
from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.export.onnx_export import TOKENIZER_FILE
from quarry.models.loading import load_model
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.onnx_runner import count_cores
from quarry.models.runtime.runner import Precision
from quarry.models.served_reranker import ServedReranker
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.tokenization import TextTokenizer
from quarry.models.torch_modules.late_module import make_late_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder
from quarry_trainer.learning.student import cut_student

BASELINE = "sentence-transformers, 6 joint layers"
ONE_THREAD = f"{BASELINE}, one thread"
"""What the processor's time is compared with: two threads that wait for each other spin."""
PASSAGES, PASSAGE_TOKENS = 50, 128
KEPT_SHARES = (0.0, 1.0)
CACHED_SHARES = (0.5, 0.9)
CASCADE_DEPTH = 10
"""Pairs that a cascade's second model reads."""
JOINT_LAYERS = (1, 2)
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
STUDENT_LAYERS = 3
STATE_BYTES = 2**30
SCORE_BYTES = 2**24

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to score pairs.

    Attributes:
        score: what is timed.
        prepare: called before with the pairs; makes the states or scores that are to be kept.
        states: where one that reads texts apart keeps states.
        store: that file of them, for what is to be read from there.
    """

    score: Callable[[list[Pair]], list[PairScore]]
    prepare: Callable[[list[Pair]], object] = lambda pairs: None
    states: StateCache | None = None
    store: StateStore | None = None

    def bytes_a_passage(self) -> int | None:
        kept = self.states if self.store is None else self.store
        return kept.bytes // len(kept) if kept is not None and len(kept) else None


def passages_of(name: str, count: int, seed: int) -> list[str]:
    """Different texts of 128 tokens, special tokens included, joined from a collection's documents."""
    rng = random.Random(seed)
    texts = [record["text"] for record in corpus(name, 3_000)]
    tokenizer = TextTokenizer(resolve_model(DEFAULT_ENCODER).path / TOKENIZER_FILE, 512)
    made = [" ".join(rng.sample(texts, 4)) for _ in range(count)]
    ends = [spans[PASSAGE_TOKENS - 3][1] for spans in tokenizer.find_spans(made)]  # two are special
    return [text[:end] for text, end in zip(made, ends, strict=True)]


def sentence_transformers_models(folder: Path) -> dict[str, Configuration]:
    """With all cores as it comes, and on one thread."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", max_length=512)

    def score(pairs: list[Pair], threads: int) -> list[PairScore]:
        torch.set_num_threads(threads)
        return [PairScore(one, False) for one in model.predict(pairs, show_progress_bar=False)]

    return {
        BASELINE: Configuration(partial(score, threads=torch.get_num_threads())),
        ONE_THREAD: Configuration(partial(score, threads=1)),
    }


def ordinary_model(folder: Path, data: Path, precision: Precision) -> Configuration:
    return Configuration(load_cross_encoder(str(folder), data, "cpu", precision=precision).score)


def apart_model(folder: Path, data: Path, share: float, precision: Precision) -> Configuration:
    """A model that finds the states of ``share`` of the passages kept in memory."""
    states = StateCache(STATE_BYTES if share else 0)
    model = load_cross_encoder(str(folder), data, "cpu", states=states, precision=precision)

    def prepare(pairs: list[Pair]) -> None:
        model.score([("before", passage) for _, passage in pairs[: round(share * len(pairs))]])

    return Configuration(model.score, prepare, states)


def stored_model(folder: Path, data: Path, precision: Precision) -> Configuration:
    """A model that finds all states on disk, as after a restart, and none in memory."""
    store = StateStore(data / f"{folder.name}-{precision}-states.db", STATE_BYTES)
    name, states = str(folder), StateCache(0, store)
    model = load_cross_encoder(name, data, "cpu", states=states, precision=precision)
    if not isinstance(model, TwoStepCrossEncoder):
        raise ModelError(f"{name} is not run in parts")

    def prepare(pairs: list[Pair]) -> None:
        model.keep([passage for _, passage in pairs])

    return Configuration(model.score, prepare, states, store)


def asked_before(folder: Path, data: Path, share: float, precision: Precision) -> Configuration:
    """An ordinary model as it is served, which finds the scores of ``share`` of the pairs in the cache."""
    model = load_cross_encoder(str(folder), data, "cpu", precision=precision)
    served = ServedReranker(model, RERANKER_ALONE, cache=ScoreCache(SCORE_BYTES))
    loop = asyncio.new_event_loop()

    def score(pairs: list[Pair]) -> list[PairScore]:
        return loop.run_until_complete(served.score(pairs))

    return Configuration(score, lambda pairs: score(pairs[: round(share * len(pairs))]))


def cascade(first: Configuration, then: Configuration) -> Configuration:
    """``first`` scores all pairs, ``then`` the best of those."""

    def score(pairs: list[Pair]) -> list[PairScore]:
        scored = zip(first.score(pairs), pairs, strict=True)
        best = sorted(scored, key=lambda one: -one[0].score)[:CASCADE_DEPTH]
        return then.score([pair for _, pair in best])

    return Configuration(score, first.prepare)


def configurations(folder: Path, joint_layers: Sequence[int], seed: int) -> dict[str, Configuration]:
    """All of them by name; the baseline first."""
    ordinary = cross_encoder(folder / "ordinary", seed)
    student = cut_student(ordinary, STUDENT_LAYERS, folder / "student")
    made = sentence_transformers_models(ordinary)
    for precision in PRECISIONS:
        made[f"ordinary, {precision}"] = ordinary_model(ordinary, folder, precision)
        name = f"student, {STUDENT_LAYERS} layers, {precision}"
        made[name] = ordinary_model(student, folder, precision)
        for share in CACHED_SHARES:
            name = f"ordinary, {precision}, {share:.0%} of the scores cached"
            made[name] = asked_before(ordinary, folder, share, precision)
    for joint in joint_layers:
        made |= apart_configurations(folder, f"split, {joint} joint", split_folder(folder, joint))
    late = make_late_model(encoder_folder(), folder / "late")
    made |= apart_configurations(folder, "late", late, PRECISIONS[:1])  # it is the same in both
    for precision, joint in itertools.product(PRECISIONS, joint_layers):
        first, then = made[f"split, {joint} joint, {precision}, 100% kept"], made[f"ordinary, {precision}"]
        made[f"cascade, {joint} joint, {precision}, 100% kept, ordinary on {CASCADE_DEPTH}"] = cascade(
            first, then
        )
    return made


def apart_configurations(
    folder: Path, kind: str, model: Path, precisions: Sequence[Precision] = PRECISIONS
) -> dict[str, Configuration]:
    """Of a model that reads query and passage apart."""
    made = {}
    for precision in precisions:
        for share in KEPT_SHARES:
            made[f"{kind}, {precision}, {share:.0%} kept"] = apart_model(model, folder, share, precision)
        made[f"{kind}, {precision}, all on disk"] = stored_model(model, folder, precision)
    return made


def encoder_folder() -> Path:
    return resolve_model(DEFAULT_ENCODER).path


def split_folder(folder: Path, joint: int) -> Path:
    """Of a split cross-encoder, made at first."""
    target = folder / f"split-{joint}"
    return target if target.exists() else make_split_model(encoder_folder(), joint, target)


def largest_difference(folder: Path, joint: int, pairs: list[Pair]) -> float:
    """Between the scores of the two parts and those of the whole graph, which rounds no states."""
    name = str(split_folder(folder, joint))
    whole = TransformerCrossEncoder(load_model(name, ModelKind.CROSS_ENCODER, folder, "cpu"))
    parts = load_cross_encoder(name, folder, "cpu")
    return max(abs(a.score - b.score) for a, b in zip(whole.score(pairs), parts.score(pairs), strict=True))


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round took, in milliseconds; ``cpu_ms`` of all threads together."""

    ms: float
    cpu_ms: float


def timed(made: dict[str, Configuration], rounds: Sequence[list[Pair]]) -> dict[str, list[Taken]]:
    """Each round after the first."""
    times: dict[str, list[Taken]] = {name: [] for name in made}
    for number, pairs in enumerate(rounds):
        for name, one in made.items():
            one.prepare(pairs)
            began, cpu_began = time.perf_counter(), time.process_time()
            one.score(pairs)
            taken = Taken(1_000 * (time.perf_counter() - began), 1_000 * (time.process_time() - cpu_began))
            if number:  # the first runs of a session are slow
                times[name].append(taken)
    return times


def medians(taken: Sequence[Taken]) -> Taken:
    return Taken(median(one.ms for one in taken), median(one.cpu_ms for one in taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--joint", type=int, nargs="+", default=list(JOINT_LAYERS), help="joint layers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name, rounds = available(arguments.collection), arguments.rounds + 1
    passages = passages_of(name, PASSAGES * rounds, arguments.seed)
    asked = queries(name, arguments.seed)[:rounds]
    lots = [
        [(query, passage) for passage in passages[PASSAGES * n : PASSAGES * (n + 1)]]
        for n, query in enumerate(asked)
    ]
    with tempfile.TemporaryDirectory() as folder:
        made = configurations(Path(folder), arguments.joint, arguments.seed)
        times = timed(made, lots)
        differences = {joint: largest_difference(Path(folder), joint, lots[0]) for joint in arguments.joint}
    baseline, one_thread = medians(times[BASELINE]), medians(times[ONE_THREAD])
    for configuration, taken in times.items():
        found = medians(taken)
        line = {
            "benchmark": "split_serving",
            "configuration": configuration,
            "collection": name,
            "rounds": arguments.rounds,
            "cores": count_cores(),
            "ms": round(found.ms, 1),
            "times_faster": round(baseline.ms / found.ms, 2),
            "cpu_ms": round(found.cpu_ms, 1),
            "times_less_cpu": round(one_thread.cpu_ms / found.cpu_ms, 2),
            "bytes_a_passage": made[configuration].bytes_a_passage(),
        }
        print(json.dumps(line))
    line = {f"{joint} joint": round(difference, 6) for joint, difference in differences.items()}
    print(
        json.dumps(
            {"benchmark": "split_serving", "difference_from_whole": line, "load_per_core": load_average()}
        )
    )


if __name__ == "__main__":
    main()
