"""The same rules by Quarry and by sentence-transformers' ``mine_hard_negatives``: how many rows are the same.

One encoder, one vector a document (of its first passage, which is the text that both are given), exact
search. One JSON line for each rule: the share of (query, positive) rows whose negatives are the same in the
same order, and of the others how many differ for which reason.
"""

import argparse
import contextlib
import io
import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mining_data import COLLECTIONS, SAMPLE, Judged, read_judged, sources_of

from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry_miner.examples import MiningQuery, Positive
from quarry_miner.job.task_builder import Sources, assemble
from quarry_miner.mining.mining import mine
from quarry_miner.presets.registry import make_preset

NEGATIVES = 3
ROUNDING = 2e-6
"""Two programs' cosines of one pair differ by so much."""
Rows = dict[tuple[str, str], list[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in both vocabularies."""

    name: str
    preset: str
    parameters: Mapping[str, float]
    theirs: Mapping[str, Any]


RULES = (
    Rule("relative_margin", "perc-pos", {"share": 0.95}, {"relative_margin": 0.05}),
    Rule("absolute_margin", "margin-pos", {"margin": 0.05}, {"absolute_margin": 0.05}),
    Rule("range_min", "topk-shifted", {"shift": 10}, {"range_min": 10}),
)


class Theirs:
    """sentence-transformers with the model of the default encoder; vectors are kept in ``folder``."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        from sentence_transformers import SentenceTransformer

        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        self.model = SentenceTransformer(str(resolve_model(DEFAULT_ENCODER).path), device="cpu")
        self.model.max_seq_length = max_tokens
        self._folder = folder

    def mine(self, pairs: list[tuple[str, str]], corpus: list[str], **rule: Any) -> list[dict[str, str]]:
        """Rows of ``anchor``, ``positive`` and ``negative``, all texts."""
        from datasets import Dataset
        from sentence_transformers.util import mine_hard_negatives

        dataset = Dataset.from_dict({"anchor": [q for q, _ in pairs], "positive": [p for _, p in pairs]})
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = mine_hard_negatives(
                dataset,
                self.model,
                corpus=corpus,
                num_negatives=NEGATIVES,
                output_format="triplet",
                cache_folder=str(self._folder),
                batch_size=16,
                verbose=False,
                **rule,
            )
        rows: list[dict[str, str]] = found.to_list()
        return rows


def first_passages(sources: Sources) -> list[str]:
    """What the encoder reads of each document: with one vector a document, the text of its first passage."""
    from quarry.documents.passages import PassageCutter, build_passage_text
    from quarry.documents.vectors import read_source

    assert sources.encoder is not None
    cutter = PassageCutter(sources.encoder, sources.policy)
    read = [
        read_source(sources.corpus.schema, f) for batch in sources.corpus.iterate_batches() for f in batch
    ]
    cuts = cutter.cut(read)
    return [build_passage_text(s, cut, 0) if cut.spans else "" for s, cut in zip(read, cuts, strict=True)]


def queries_of(judged: Judged, sources: Sources) -> list[MiningQuery]:
    """A query a distinct text, since sentence-transformers knows no ids."""
    found: dict[str, dict[int, None]] = {}
    for id, positives in judged.positives.items():
        numbers = (sources.corpus.numbers[positive] for positive in positives)
        found.setdefault(judged.queries[id], {}).update(dict.fromkeys(numbers))
    return [MiningQuery(t, t, tuple(Positive(n) for n in numbers)) for t, numbers in found.items()]


def depth_of(rule: Rule, queries: list[MiningQuery]) -> int:
    """The candidates that sentence-transformers looks at, less the one that is the positive."""
    most = max(len(query.positives) for query in queries)
    wanted = NEGATIVES * 10 if rule.preset != "topk-shifted" else 10 + NEGATIVES
    return wanted + 2 * most - 1


def compared(judged: Judged, sources: Sources, theirs: Theirs, rule: Rule) -> dict[str, Any]:
    texts = first_passages(sources)
    number = {text: i for i, text in reversed(list(enumerate(texts)))}
    queries = queries_of(judged, sources)
    pairs = [(query.text, texts[p.document]) for query in queries for p in query.positives]
    other: Rows = {}
    for row in theirs.mine(pairs, texts, **rule.theirs):
        ids = [sources.corpus.ids[number[row[name]]] for name in ("positive", "negative")]
        other.setdefault((row["anchor"], ids[0]), []).append(ids[1])
    preset = make_preset(rule.preset, rule.parameters)
    task = assemble(preset, queries, sources, ["dense"], depth_of(rule, queries))
    ours: Rows = {}
    scores: dict[tuple[str, str], float] = {}
    for example in mine(task, preset, NEGATIVES, seed=0).examples:
        ours.setdefault((example.query, example.positive_id), []).append(example.negative_id)
        scores[example.query, example.negative_id] = example.s_qd
    rows = [(q.text, sources.corpus.ids[p.document]) for q in queries for p in q.positives]
    reasons: Counter[str] = Counter()
    for row in rows:
        mined, wanted = ours.get(row, []), other.get(row, [])
        if mined != wanted:
            reasons[_reason(sources, texts, row, mined, wanted)] += 1
    same = len(rows) - sum(reasons.values())
    return {
        "benchmark": "mining_agreement",
        "set": judged.name,
        "rule": rule.name,
        "rows": len(rows),
        "same": same / len(rows),
        "different": dict(reasons),
    }


def _reason(
    sources: Sources, texts: list[str], row: tuple[str, str], ours: list[str], theirs: list[str]
) -> str:
    numbers = sources.corpus.numbers
    if sorted(texts[numbers[id]] for id in ours) == sorted(texts[numbers[id]] for id in theirs):
        return "documents with the same text or score, in another order"
    query = sources.dense.queries.embed([row[0]])
    differing = np.array([numbers[id] for id in {*ours} ^ {*theirs}], np.int32)
    found = sources.dense.documents.compute_similarities(query, differing)[0]
    if np.ptp(found) <= ROUNDING:
        return "scores equal to rounding"
    if len(set(ours)) > len(set(theirs)) and set(theirs) <= set(ours):
        return "ours goes on where theirs has looked at all its candidates"
    positives = sources.dense.documents.compute_similarities(query, np.array([numbers[row[1]]], np.int32))[
        0, 0
    ]
    for line in (positives - abs(positives) * 0.05, positives - 0.05):
        if np.abs(found - line).min() <= ROUNDING:
            return "a score on the line, to rounding"
    return "other"


def with_one_positive(judged: Judged) -> Judged:
    """The queries that have one. Of several positives sentence-transformers measures by the least similar,
    and Quarry each pair by its own."""
    kept = {query: found for query, found in judged.positives.items() if len(found) == 1}
    return replace(judged, queries={query: judged.queries[query] for query in kept}, positives=kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps vectors and models")
    parser.add_argument("--set", default="scifact")
    parser.add_argument("--qrels", default="qrels/train.tsv")
    options = parser.parse_args()
    if not (COLLECTIONS / options.set).is_dir() and not (SAMPLE / options.set).is_dir():
        sys.exit(f"the collection {options.set} is not there")
    judged = with_one_positive(read_judged(options.set, options.qrels))
    sources = sources_of(judged, options.data, one_vector=True, lexical=False)
    theirs = Theirs(options.data / "sentence-transformers", max_tokens=256)
    for rule in RULES:
        print(json.dumps(compared(judged, sources, theirs, rule)), flush=True)


if __name__ == "__main__":
    main()
