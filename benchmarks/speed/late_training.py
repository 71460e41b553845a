"""What late interaction costs to train and what it learns, on the sample of stackfaq (text alone).

The 50 documents that the encoder finds nearest to a question are its candidates, and their cosines stand for
the fused score. Questions are learned from, or held out: of threads that training sees (``known``), and of
one thread in five that it does not (``unseen``). Negatives are drawn from the first 30 candidates. One JSON
line: nDCG@10 of the candidates as they come, of the model as it begins and as it ends, and the seconds of the
processor that states of texts and steps took.

    OMP_NUM_THREADS=1 python benchmarks/speed/late_training.py
"""

import argparse
import json
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ir_measures import nDCG
from serving import load_average
from split_quality import candidates

from quarry.models.encoder import load_encoder
from quarry.models.sources.resolve import DEFAULT_ENCODER, resolve_model
from quarry.models.torch_modules.late_module import make_late_model
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.sample import find_sample
from quarry_cli.inputs.topics import read_queries
from quarry_trainer.data.dataset import GroupDataset, TextGroup
from quarry_trainer.learning import late_form
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.late_start import fit_start
from quarry_trainer.learning.listwise import GROUP_SIZE, make_listwise
from quarry_trainer.learning.offset import NEW_OFFSET
from quarry_trainer.learning.trainable_forms import FormScorer, open_form
from quarry_trainer.learning.training_loop import TrainingLoopSettings, run_loop
from quarry_trainer.measures import NDCG, measure_per_query
from quarry_trainer.trainings.blending import TIMES
from quarry_trainer.trainings.reranker import GROUPS, LATE_STEPS, RATES

TOKENS, POOL, DEPTH = 128, 30, 20
Qrels = dict[str, dict[str, int]]


class Collection:
    """Texts, questions and judgments, and the candidates of each question with their cosines."""

    def __init__(self, data: Path) -> None:
        sample = find_sample()
        self.texts = {one["_id"]: one["text"] for one in map(json.loads, sample.corpus.open())}
        self.qrels: Qrels = {}
        for split in ("known-train", "train"):
            self.qrels |= read_qrels(sample.qrels.with_name(f"{split}.tsv"))
        self.queries = read_queries(sample.queries, set(self.qrels))
        self.found = candidates(self.texts, self.queries, data)
        encoder = load_encoder(DEFAULT_ENCODER, data, "cpu")
        vectors = dict(zip(self.texts, encoder.encode(list(self.texts.values())), strict=True))
        asked = dict(zip(self.queries, encoder.encode(list(self.queries.values())), strict=True))
        self.cosines = {
            query: [float(asked[query] @ vectors[doc]) for doc in docs] for query, docs in self.found.items()
        }

    def divided(self) -> tuple[list[str], dict[str, list[str]]]:
        """Questions to learn from, and those held out."""
        unseen = [query for query in self.queries if _number(query.split("-")[0]) % 5 == 0]
        others = [query for query in self.queries if query not in unseen]
        known = [query for query in others if _number(query) % 4 == 0]
        return [query for query in others if query not in known], {"known": known, "unseen": unseen}

    def groups(self, queries: Sequence[str]) -> list[TextGroup]:
        return [
            self._group(query, place)
            for query in queries
            for place, document in enumerate(self.found[query])
            if document in self.qrels[query]
        ]

    def _group(self, query: str, positive: int) -> TextGroup:
        docs = self.found[query]
        others = [place for place, doc in enumerate(docs[:POOL]) if doc not in self.qrels[query]]
        places = [positive, *others]
        return TextGroup(
            query=self.queries[query],
            documents=tuple(docs[place] for place in places),
            passages=tuple(self.texts[docs[place]] for place in places),
            fused=tuple(self.cosines[query][place] for place in places),
            relevant=(True, *[False] * len(others)),
            weights=(1.0,) * len(places),
        )

    def ndcg(self, queries: Sequence[str], form: LateForm | None, offset: float) -> float:
        """Of the candidates as they come without a model."""
        orders = {}
        for query in queries:
            docs, fused = self.found[query][:DEPTH], self.cosines[query][:DEPTH]
            pairs = [(self.queries[query], self.texts[document]) for document in docs]
            own = [one.score for one in FormScorer(form).score(pairs)] if form else [0.0] * len(docs)
            scores = np.array(own) + (offset if form else 1.0) * np.array(fused)
            best = [docs[place] for place in np.argsort(-scores, kind="stable")]
            orders[query] = (*best, *self.found[query][DEPTH:])
        qrels = {query: self.qrels[query] for query in queries}
        return round(float(measure_per_query(orders, qrels, [nDCG @ 10])[NDCG].mean()), 4)


def _number(text: str) -> int:
    return zlib.crc32(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("build/late_training"))
    parser.add_argument("--steps", type=int, default=LATE_STEPS)
    parser.add_argument("--questions", type=int, default=150, help="of each kind that are held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pull", type=float, default=late_form.PULL, help="towards where training began")
    parser.add_argument("--offset", type=float, default=NEW_OFFSET, help="of the fused score")
    arguments = parser.parse_args()
    late_form.PULL = arguments.pull
    collection = Collection(arguments.data)
    learned, held_out = collection.divided()
    held_out = {kind: queries[: arguments.questions] for kind, queries in held_out.items()}
    form = open_form(
        make_late_model(resolve_model(DEFAULT_ENCODER).path, arguments.data / "late"), TOKENS, arguments.seed
    )
    assert isinstance(form, LateForm)
    began = time.process_time()
    form.states.read_passages(list(collection.texts.values()))
    form.states.read_queries([collection.queries[query] for query in learned])
    states_s = time.process_time() - began
    groups = collection.groups(learned)
    offset = arguments.offset
    fit_start(form, groups, offset)
    line: dict[str, object] = {
        "offset": offset,
        "groups": len(groups),
        "steps": arguments.steps,
        "pull": arguments.pull,
    }
    for kind, queries in held_out.items():
        line[f"{kind}_queries"] = len(queries)
        line[f"{kind}_as_they_come"] = collection.ndcg(queries, None, 0.0)
        line[f"{kind}_untrained"] = collection.ndcg(queries, form, offset)
    trainable = make_listwise(form, "lce", RATES["late"], offset)
    settings = TrainingLoopSettings(arguments.steps, GROUPS["late"], arguments.seed, RATES["late"])
    began = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        dataset = GroupDataset(groups, GROUP_SIZE, arguments.seed)
        run_loop(trainable, dataset, settings, Path(work), None, lambda done, said: None)
    line |= {"states_cpu_s": round(states_s, 1), "steps_cpu_s": round(time.process_time() - began, 1)}
    for kind, queries in held_out.items():
        line[f"{kind}_trained"] = {times: collection.ndcg(queries, form, times * offset) for times in TIMES}
    print(json.dumps({"benchmark": "late_training", **line, "load_per_core": load_average()}))


if __name__ == "__main__":
    main()
