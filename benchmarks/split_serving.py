"""Time to re-rank 50 passages of 128 tokens, in times of sentence-transformers' ``CrossEncoder.predict``.

All models have the body of the default encoder; heads are made from a seed or not trained, for speed does not
depend on what they learned. Every round has passages of its own, which all configurations score in turn; the
states that one of them is to find kept are made before, for another query. Both sides read texts themselves.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rerank_throughput import cross_encoder
from serving import available, corpus, load_average, queries

from quarry.models.cross_encoder import TransformerCrossEncoder, load_cross_encoder
from quarry.models.loading import load_model
from quarry.models.onnx_export import TOKENIZER_FILE
from quarry.models.onnx_runner import available_cores
from quarry.models.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.settings import ModelKind
from quarry.models.split_module import make_split_model
from quarry.models.state_cache import StateCache
from quarry.models.tokens import TextTokenizer
from quarry_trainer.student import cut_student

BASELINE = "sentence-transformers, 6 joint layers"
PASSAGES, PASSAGE_TOKENS = 50, 128
KEPT_SHARES = (0.0, 0.5, 0.9, 1.0)
JOINT_LAYERS = (1, 2)
STUDENT_LAYERS = 3
STATE_BYTES = 2**30

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to score pairs.

    Attributes:
        score: what is timed.
        prepare: called before with the passages; makes the states that are to be kept.
        states: where a split one keeps states.
    """

    score: Callable[[list[Pair]], object]
    prepare: Callable[[Sequence[str]], object] = lambda passages: None
    states: StateCache | None = None


def passages_of(name: str, count: int, seed: int) -> list[str]:
    """Different texts of 128 tokens, special tokens included, joined from a collection's documents."""
    rng = random.Random(seed)
    texts = [record["text"] for record in corpus(name, 3_000)]
    tokenizer = TextTokenizer(resolve_model(DEFAULT_ENCODER).path / TOKENIZER_FILE, 512)
    made = [" ".join(rng.sample(texts, 4)) for _ in range(count)]
    ends = [spans[PASSAGE_TOKENS - 3][1] for spans in tokenizer.spans(made)]  # two are special
    return [text[:end] for text, end in zip(made, ends, strict=True)]


def sentence_transformers_model(folder: Path) -> Configuration:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", max_length=512)
    return Configuration(lambda pairs: model.predict(pairs, show_progress_bar=False))


def split_model(folder: Path, data: Path, share: float) -> Configuration:
    """A split cross-encoder that finds the states of ``share`` of the passages kept."""
    states = StateCache(STATE_BYTES if share else 0)
    model = load_cross_encoder(str(folder), data, "cpu", states=states)

    def prepare(passages: Sequence[str]) -> None:
        model.score([("before", passage) for passage in passages[: round(share * len(passages))]])

    return Configuration(model.score, prepare, states)


def configurations(folder: Path, seed: int) -> dict[str, Configuration]:
    ordinary = cross_encoder(folder / "ordinary", seed)
    student = cut_student(ordinary, STUDENT_LAYERS, folder / "student")
    made = {
        BASELINE: sentence_transformers_model(ordinary),
        "ordinary": Configuration(load_cross_encoder(str(ordinary), folder, "cpu").score),
        f"student, {STUDENT_LAYERS} layers": Configuration(
            load_cross_encoder(str(student), folder, "cpu").score
        ),
    }
    for joint in JOINT_LAYERS:
        split = make_split_model(resolve_model(DEFAULT_ENCODER).path, joint, split_folder(folder, joint))
        for share in KEPT_SHARES:
            made[f"split, {joint} joint, {share:.0%} kept"] = split_model(split, folder, share)
    return made


def split_folder(folder: Path, joint: int) -> Path:
    return folder / f"split-{joint}"


def largest_difference(folder: Path, joint: int, pairs: list[Pair]) -> float:
    """Between the scores of the two parts and those of the whole graph, which rounds no states."""
    name = str(split_folder(folder, joint))
    whole = TransformerCrossEncoder(load_model(name, ModelKind.CROSS_ENCODER, folder, "cpu"))
    parts = load_cross_encoder(name, folder, "cpu")
    return max(abs(a.score - b.score) for a, b in zip(whole.score(pairs), parts.score(pairs), strict=True))


def timed(
    made: dict[str, Configuration], rounds: Sequence[list[Pair]]
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Milliseconds of each round after the first, and bytes a passage of what is kept."""
    times: dict[str, list[float]] = {name: [] for name in made}
    for number, pairs in enumerate(rounds):
        for name, one in made.items():
            one.prepare([passage for _, passage in pairs])
            began = time.perf_counter()
            one.score(pairs)
            if number:  # the first runs of a session are slow
                times[name].append(1_000 * (time.perf_counter() - began))
    caches = {name: one.states for name, one in made.items() if one.states is not None}
    return times, {name: cache.bytes // len(cache) for name, cache in caches.items() if len(cache)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--rounds", type=int, default=9)
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
        times, bytes_of = timed(configurations(Path(folder), arguments.seed), lots)
        differences = {joint: largest_difference(Path(folder), joint, lots[0]) for joint in JOINT_LAYERS}
    baseline = median(times[BASELINE])
    for configuration, taken in times.items():
        line = {
            "benchmark": "split_serving",
            "configuration": configuration,
            "collection": name,
            "rounds": arguments.rounds,
            "cores": available_cores(),
            "ms": round(median(taken), 1),
            "ratio": round(median(taken) / baseline, 3),
            "times_faster": round(baseline / median(taken), 2),
            "bytes_a_passage": bytes_of.get(configuration),
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
