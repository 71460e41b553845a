"""Useful tokens a second of the served re-ranking path against bare ONNX Runtime on perfectly packed batches.

16 requests at once, each of 50 pairs of mixed length, through one batcher. The cross-encoder has the shape of
all-MiniLM-L6, whose weights it has, and a head made from a seed: speed does not depend on what it learned.
The bare run gets the same pairs as tokens, all at once and sorted by length.
"""

import argparse
import asyncio
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from packed import PackedModel
from serving import available, corpus, load_average, queries

from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.runtime.batcher import PairBatcher
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model

REQUESTS = 16
PAIRS = 50
SHORTEST_WORDS, LONGEST_WORDS = 10, 200

Pair = tuple[str, str]


def cross_encoder(folder: Path, seed: int) -> Path:
    """Writes the model to ``folder``."""
    import torch
    from transformers import BertForSequenceClassification

    source = resolve_model(DEFAULT_ENCODER).path
    torch.manual_seed(seed)
    model = BertForSequenceClassification.from_pretrained(source, num_labels=1)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    return folder


def requests_of(name: str, seed: int) -> list[list[Pair]]:
    """Pairs of a query and the beginning of a document, of a length drawn at random."""
    rng = random.Random(seed)
    texts = [record["text"].split() for record in corpus(name, 3_000)]
    asked = queries(name, seed)[:REQUESTS]
    return [
        [
            (query, " ".join(rng.choice(texts)[: rng.randint(SHORTEST_WORDS, LONGEST_WORDS)]))
            for _ in range(PAIRS)
        ]
        for query in asked
    ]


async def served_s(batcher: PairBatcher, requests: list[list[Pair]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(batcher.score(pairs) for pairs in requests))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name = available(arguments.collection)
    requests = requests_of(name, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        model = load_cross_encoder(
            str(cross_encoder(Path(folder, "model"), arguments.seed)), Path(folder), "cpu"
        )
        bare = PackedModel(Path(folder), model.info.fingerprint)
        inputs = model.prepare([pair for pairs in requests for pair in pairs])
        tokens = sum(map(len, inputs))
        batcher = PairBatcher(model)
        served, baseline = [], []
        for _ in range(arguments.rounds):
            baseline.append(tokens / bare.seconds(inputs))
            served.append(tokens / asyncio.run(served_s(batcher, requests)))
        batcher.close()
    line = {
        "benchmark": "rerank_throughput",
        "collection": name,
        "pairs": len(inputs),
        "tokens": tokens,
        "served_tokens_per_s": round(median(served)),
        "bare_tokens_per_s": round(median(baseline)),
        "ratio": round(median(s / b for s, b in zip(served, baseline, strict=True)), 3),
        "load_per_core": load_average(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
