"""What a split cross-encoder learns by pairs and by texts apart, and what averaging and blending keep of it.

On stackfaq-webapps, text alone, from the clicks of SIMULATED users that benchmarks/flywheel.py has left in
``--data`` (run it first with ``--sets stackfaq-unseen --arms fused``). nDCG@10 of two kinds of queries: train
queries that are not learned from, whose documents others are trained on (``known``), and test queries, whose
documents nothing is trained on (``unseen``). One JSON line for each recipe and share of the way it went.

    python benchmarks/learning_recipe.py --data build/flywheel
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from flywheel import ARMS, Bench, roughly
from ir_measures import nDCG

from quarry.models.blend import Blend
from quarry_cli.child import running_server
from quarry_cli.connection import connect
from quarry_trainer.apart import apart_and_together
from quarry_trainer.averaging import Averaging
from quarry_trainer.contrastive import GROUPS_A_STEP as GROUPS_APART
from quarry_trainer.dataset import GroupDataset, TextGroup, read_examples
from quarry_trainer.evaluation import Scored, orders_by
from quarry_trainer.forms import FormScorer, SplitForm, open_form
from quarry_trainer.listwise import GROUP_SIZE, GROUPS_A_STEP, listwise
from quarry_trainer.live import RankedQuery, open_search
from quarry_trainer.loop import LoopSettings, Trainable, run_loop
from quarry_trainer.material import divided, text_groups
from quarry_trainer.measures import NDCG, Qrels, per_query
from quarry_trainer.reranker import SPLIT_RATE
from quarry_trainer.scoring import FUSED_ALONE, score_ranked

SHARES, WEIGHTS = (1.0, 0.6, 0.3), (0.0, 8.0, 16.0, 32.0)
EVERY = 2
"""Each second query is measured."""
Measured = dict[str, tuple[list[RankedQuery], Qrels]]


def material(bench: Bench) -> tuple[list[TextGroup], Measured]:
    """What is trained on, and what is measured."""
    examples = read_examples(bench.examples("quarry", ARMS["quarry"], 0))
    judged = bench.judged()
    groups = divided(examples, judged).train
    with open_search(bench.data, bench.address, "bench", bench.key) as live:
        known = live.rank({query.id: query.text for query in judged})
        ranked = {q.query_id: q for q in live.rank({group.query_id: group.query for group in groups})}
        texts = text_groups(groups, ranked, live.matching_passages, examples.positives, spared=True)
    measured: Measured = {
        "known": (known[::EVERY], {query.id: query.judgments for query in judged}),
        "unseen": (bench.candidates[::EVERY], bench.test),
    }
    return texts, measured


def figures(form: SplitForm, measured: Measured) -> dict[str, Any]:
    """nDCG@10 by kind of query and weight of the fused score."""
    found: dict[str, Any] = {}
    for kind, (ranked, qrels) in measured.items():
        with roughly():
            scores = score_ranked(FormScorer(form), ranked)
        named = {f"{weight:g}": Blend(rerank=1.0, fused=weight) for weight in WEIGHTS}
        found[kind] = {
            name: _ndcg(orders_by(ranked, Scored(scores, blend)), qrels)
            for name, blend in {**named, "fused alone": FUSED_ALONE}.items()
        }
        found[f"{kind}_queries"] = len(ranked)
    return found


def _ndcg(orders: dict[str, tuple[str, ...]], qrels: Qrels) -> float:
    return round(float(per_query(orders, {id: qrels[id] for id in orders}, [nDCG @ 10])[NDCG].mean()), 4)


def recipes(form: SplitForm, texts: list[TextGroup]) -> dict[str, tuple[Trainable, int]]:
    """How groups become a loss, and how many of them are read a step."""
    return {
        "pairs together": (listwise(form, "lce", SPLIT_RATE), GROUPS_A_STEP),
        "texts apart, some pairs": (apart_and_together(form, "lce", SPLIT_RATE, 0.0, texts), GROUPS_APART),
    }


def lines(bench: Bench, steps: int) -> Iterator[dict[str, Any]]:
    texts, measured = material(bench)
    form = _form(bench.base)
    yield {"recipe": "untrained", **figures(form, measured)}
    for name in recipes(form, texts):
        form = _form(bench.base)
        trainable, groups = recipes(form, texts)[name]
        averagings = [Averaging(trainable.model, share) for share in SHARES]
        with tempfile.TemporaryDirectory() as folder:
            settings = LoopSettings(steps, groups, 0, SPLIT_RATE)
            dataset = GroupDataset(texts, GROUP_SIZE, 0)
            run_loop(trainable, dataset, settings, Path(folder), None, lambda _share, _said: None)
        for share, averaging in zip(SHARES, averagings, strict=True):
            with averaging.applied():
                yield {"recipe": name, "share": share, "steps": steps, **figures(form, measured)}


def _form(base: Path) -> SplitForm:
    form = open_form(base, 128, 0)
    assert isinstance(form, SplitForm)
    return form


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of benchmarks/flywheel.py")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    work = options.data / "stackfaq-unseen"
    with (
        running_server(work) as address,
        connect(address, 600.0) as quarry,
        closing(Bench("stackfaq-unseen", quarry, address, work, work / "untrained")) as bench,
    ):
        bench.prepare(0)
        for line in lines(bench, options.steps):
            print(json.dumps({"benchmark": "learning_recipe", **line}), flush=True)


if __name__ == "__main__":
    main()
