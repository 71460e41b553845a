"""Pairs a second of Quarry's training loop, against sentence-transformers' trainer and against bare torch.

An ordinary cross-encoder of the shape of all-MiniLM-L6 is trained with a listwise loss on groups of a query
and eight passages, eight groups a step, every pair 96 tokens long. In each round all three get the same
groups, in turns, with AdamW, clipping and a schedule. Time is taken from the first forward pass to the last
one, so making batches, logging and the optimizer are in it, and loading and saving the model are not. The
first round warms up and is not counted. On the CPU. A job of the server runs with settings of the allocator
that give none of the three an advantage here, for all run in one process; to have them, set them:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456 \\
        python benchmarks/speed/training_speed.py
"""

from quarry import environment as environment  # forbids telemetry before a library is imported

# isort: split
import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: the loop would use bfloat16 on a GPU

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from datasets import Dataset
from rerank_throughput import cross_encoder
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import ListNetLoss
from sentence_transformers.cross_encoder.trainer import CrossEncoderTrainer
from sentence_transformers.cross_encoder.training_args import CrossEncoderTrainingArguments
from serving import available, corpus, load_average, queries
from torch import nn
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    PrinterCallback,
    get_linear_schedule_with_warmup,
)
from transformers.models.bert.modeling_bert import BertEmbeddings

from quarry_trainer.data.dataset import GroupDataset, TextGroup
from quarry_trainer.learning.listwise import GROUP_SIZE, GROUPS_A_STEP, make_listwise
from quarry_trainer.learning.trainable_forms import open_form
from quarry_trainer.learning.training_loop import TrainingLoopSettings, run_loop

TOKENS = 96
RATE = 2e-5
PAIRS_A_STEP = GROUPS_A_STEP * GROUP_SIZE

Run = Callable[[Path, Sequence[TextGroup], "Clock"], None]


class Speed(NamedTuple):
    """Pairs a second of wall-clock time and of CPU time; the latter is steadier on a busy machine."""

    wall: float
    cpu: float


class Clock:
    """When each forward pass of a model began, by the wall clock and by the CPU time of this process."""

    def __init__(self) -> None:
        self._began: list[tuple[float, float]] = []

    def watch(self, model: nn.Module) -> None:
        (first,) = (part for part in model.modules() if isinstance(part, BertEmbeddings))
        first.register_forward_pre_hook(
            lambda *_: self._began.append((time.perf_counter(), time.process_time()))
        )

    def speed(self, steps: int) -> Speed:
        if len(self._began) != steps:
            raise RuntimeError(f"{steps} steps ran the model {len(self._began)} times")
        pairs = PAIRS_A_STEP * (steps - 1)
        wall_s, cpu_s = (last - first for first, last in zip(self._began[0], self._began[-1], strict=True))
        return Speed(pairs / wall_s, pairs / cpu_s)


def quarry(folder: Path, groups: Sequence[TextGroup], clock: Clock) -> None:
    trainable = make_listwise(open_form(folder, TOKENS, seed=0), "lce", RATE)
    clock.watch(trainable.model)
    settings = TrainingLoopSettings(len(groups) // GROUPS_A_STEP, GROUPS_A_STEP, 0, RATE, shuffle=False)
    with tempfile.TemporaryDirectory() as work:
        dataset = GroupDataset(groups, GROUP_SIZE, seed=0)
        run_loop(trainable, dataset, settings, Path(work), None, lambda done, said: None)


def sentence_transformers(folder: Path, groups: Sequence[TextGroup], clock: Clock) -> None:
    model = CrossEncoder(str(folder), max_length=TOKENS, device="cpu")
    clock.watch(model)
    rows = {
        "query": [group.query for group in groups],
        "docs": [list(group.passages) for group in groups],
        "labels": [[float(relevant) for relevant in group.relevant] for group in groups],
    }
    with tempfile.TemporaryDirectory() as work:
        arguments = CrossEncoderTrainingArguments(
            output_dir=work,
            max_steps=len(groups) // GROUPS_A_STEP,
            per_device_train_batch_size=GROUPS_A_STEP,
            learning_rate=RATE,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=5,
        )
        loss = ListNetLoss(model, mini_batch_size=PAIRS_A_STEP)  # all pairs of a step at once, as the others
        data = Dataset.from_dict(rows)
        trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=loss)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def bare(folder: Path, groups: Sequence[TextGroup], clock: Clock) -> None:
    model = BertForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    clock.watch(model)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = get_linear_schedule_with_warmup(optimizer, 1, len(groups) // GROUPS_A_STEP)
    first = torch.zeros(GROUPS_A_STEP, dtype=torch.long)
    for start in range(0, len(groups), GROUPS_A_STEP):
        pairs = [(g.query, p) for g in groups[start : start + GROUPS_A_STEP] for p in g.passages]
        inputs = tokenizer(
            [query for query, _ in pairs],
            [passage for _, passage in pairs],
            max_length=TOKENS,
            truncation=True,
            padding=True,
            return_tensors="pt",
        )
        scores = model(**inputs).logits.view(GROUPS_A_STEP, GROUP_SIZE)
        nn.functional.cross_entropy(scores, first).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


RUNS: dict[str, Run] = {"quarry": quarry, "sentence_transformers": sentence_transformers, "bare": bare}


def groups_of(name: str, count: int, seed: int) -> list[TextGroup]:
    """Groups of a query and documents that are longer than what is read of them."""
    rng = random.Random(seed)
    texts = [record["text"] for record in corpus(name, 3_000)]
    long = [" ".join(text.split()[:TOKENS]) for text in texts if len(text.split()) >= TOKENS]
    asked = [query for query in queries(name, seed) if len(query.split()) < TOKENS // 4]
    relevant = (True, *[False] * (GROUP_SIZE - 1))
    ones, zeros = (1.0,) * GROUP_SIZE, (0.0,) * GROUP_SIZE
    return [
        TextGroup(rng.choice(asked), some, some, zeros, relevant, ones)
        for _ in range(count)
        for some in [tuple(rng.choices(long, k=GROUP_SIZE))]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name = available(arguments.collection)
    found: dict[str, list[Speed]] = {run: [] for run in RUNS}
    with tempfile.TemporaryDirectory() as work:
        folder = cross_encoder(Path(work, "model"), arguments.seed)
        for number in range(1 + arguments.rounds):
            groups = groups_of(name, arguments.steps * GROUPS_A_STEP, arguments.seed + number)
            for run in list(RUNS)[:: -1 if number % 2 else 1]:
                clock = Clock()
                RUNS[run](folder, groups, clock)
                if number:
                    found[run].append(clock.speed(arguments.steps))
    ours, theirs, bare_ones = (found[run] for run in RUNS)
    line = {
        "benchmark": "training_speed",
        "collection": name,
        "pairs_per_step": PAIRS_A_STEP,
        "tokens_per_pair": TOKENS,
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        **{f"{run}_pairs_per_s": round(median(s.wall for s in speeds), 2) for run, speeds in found.items()},
        "ratio": _ratio(ours, theirs, 0),
        "ratio_to_bare": _ratio(ours, bare_ones, 0),
        "cpu_ratio": _ratio(ours, theirs, 1),
        "cpu_ratio_to_bare": _ratio(ours, bare_ones, 1),
        "load_per_core": load_average(),
    }
    print(json.dumps(line))


def _ratio(ours: Sequence[Speed], theirs: Sequence[Speed], clock: int) -> float:
    """Median over rounds; ``clock`` 0 is the wall's, 1 the CPU's."""
    return round(median(a[clock] / b[clock] for a, b in zip(ours, theirs, strict=True)), 3)


if __name__ == "__main__":
    main()
