"""How many of the documents that each piece of click evidence calls negative are relevant to assessors.

Real clicks: the TREC 2012 Session track, imported through Quarry's own line format. Clicked documents are
positives; each rule keeps at most ``--negatives`` candidates of a pair, hardest first. Only what assessors
judged counts, and how much that is is said. Nearly every query was asked once, so the same is done a second
time with all queries of a user's task as one query, its description (``unit`` is ``task``). ``matched`` is
the share among candidates of the same pair that the rule does not keep, nearest in hardness to one that it
keeps, counted as often: below it a rule tells something. ``relevant_of_all`` takes what is not judged for
not relevant: the truth lies between. Intervals are 95 %, by bootstrap over tasks.
``half`` is ``fit`` or ``held-out`` by a hash of the task. ``bins`` are pairs never clicked by how often each
click model says that they were examined, in the TREC 2012 and 2014 logs; intervals there by query.
"""

import argparse
import asyncio
import gzip
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from click_models import TREC as TREC_2014
from click_models import trec_judgments, trec_pages
from mining_data import COLLECTIONS, hashed, read_judged, sources_of
from numpy.typing import NDArray

from quarry.feedback.imports import ImportPlan, LogFormat, Tally, import_file
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog
from quarry.feedback.pages import observed_pages
from quarry.feedback.types import ObservedPage
from quarry.questions import question_key
from quarry_miner.assembly import Sources, assemble
from quarry_miner.clicks.base import ClickLog
from quarry_miner.clicks.registry import CLICK_MODELS
from quarry_miner.evidence import Feedback
from quarry_miner.examples import Bool, Chosen, PairCandidates
from quarry_miner.mining import gatherer_for, pair_rng
from quarry_miner.positives import above_floor, join_positives
from quarry_miner.presets.base import random_documents
from quarry_miner.presets.positive_aware import below_share
from quarry_miner.presets.quarry import Quarry
from quarry_miner.presets.suspicion import hardness, suspicion

NAME = "trec-session-2012"
DAY = datetime(2012, 1, 1, tzinfo=UTC)
KEY = 1
RESAMPLES = 2_000
MODELS = ("pbm", "sdbn", "ubm")
DEFAULT_MODEL = "pbm"
HALVES = ("fit", "held-out")
BINS = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, np.inf)
Figures = NDArray[np.float64]
Kept = Callable[[PairCandidates], Bool]

QUARRY = Quarry()
APART = 0.02
"""Overlap that refuted a candidate until this was measured."""


def examined(least: float) -> Kept:
    return lambda pair: (pair.refusals >= least) & ~pair.clicked


def never_together(pair: PairCandidates) -> Bool:
    kept: Bool = pair.coclick < APART
    return kept


def not_suspicious(pair: PairCandidates) -> Bool:
    kept: Bool = suspicion(pair, QUARRY.near_query, QUARRY.positive_first) <= QUARRY.bound
    return kept


RULES: Mapping[str, tuple[str, Kept]] = {
    "topk": (DEFAULT_MODEL, lambda pair: np.ones(len(pair), np.bool_)),
    "never shown": (DEFAULT_MODEL, lambda pair: pair.shown == 0),
    "skipped": (DEFAULT_MODEL, lambda pair: (pair.shown > 0) & ~pair.clicked),
    "skipped above the last click": ("sdbn", examined(1)),
    **{
        f"examined by {model} >= {least:g}": (model, examined(least))
        for model in MODELS
        for least in (0.5, 1, 2, 3, 5)
    },
    "clicks overlap under 0.02": (DEFAULT_MODEL, never_together),
    "clicks overlap from 0.3": (DEFAULT_MODEL, lambda pair: pair.coclick >= QUARRY.together),
    "clicked for a neighbouring query": (DEFAULT_MODEL, lambda pair: pair.clicked_near),
    "nearly the positive": (DEFAULT_MODEL, lambda pair: pair.s_pd >= QUARRY.duplicate),
    "geometry": (DEFAULT_MODEL, not_suspicious),
    "band": (DEFAULT_MODEL, lambda pair: below_share(pair.s_qd, pair.s_qp_least, QUARRY.share)),
    "above the band": (DEFAULT_MODEL, lambda pair: ~below_share(pair.s_qd, pair.s_qp_least, QUARRY.share)),
}
"""By name, the click model whose refusals it reads, and what it keeps."""


@dataclass(frozen=True, slots=True)
class Row:
    """One mined negative: its task, pair, and whether assessors call it relevant (None: not judged).

    ``matched`` is the same of the candidate it is compared with (None: there is none that is judged).
    """

    task: str
    pair: int
    relevant: bool | None
    rung: str = ""
    hardness: float = float("nan")
    matched: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """(query, positive) pairs with the evidence of one click model, each with its query's text."""

    pairs: list[PairCandidates]
    texts: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
    """What assessors say.

    Attributes:
        of_query: the tasks that a query text was asked for.
        judged: grade by document, by task.
        description: by task.
    """

    of_query: Mapping[str, tuple[str, ...]]
    judged: Mapping[str, Mapping[str, int]]
    description: Mapping[str, str]

    def relevant(self, text: str, document: str) -> bool | None:
        tasks = self.of_query[question_key(text)]
        grades = [self.judged[task][document] for task in tasks if document in self.judged[task]]
        return max(grades) > 0 if grades else None


def quarry_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The log in the line format of docs/feedback.md."""
    with gzip.open(folder / "events.jsonl.gz", "rt") as lines:
        for number, page in enumerate(map(json.loads, lines)):
            search = {"search_id": f"{number}-{page['query_id']}", "session_id": page["session_id"]}
            hits = [{"id": hit["doc_id"], "rank": hit["rank"]} for hit in page["results"]]
            yield {"impression": {**search, "time": at(page["time"]), "query": page["query"], "hits": hits}}
            for place, click in enumerate(page["clicks"]):
                event = {"event_id": f"{number}-{place}", "type": "click", "document_id": click["doc_id"]}
                yield {"event": {**search, **event, "time": at(click["start"])}}


def at(seconds: float) -> str:
    return (DAY + timedelta(seconds=seconds)).isoformat()


def imported(folder: Path) -> tuple[Tally, list[ObservedPage]]:
    """Through the same import, guards and reading as in production."""

    async def run(work: Path) -> Tally:
        log = await FeedbackLog.open(work / "feedback.db")
        file = work / "lines.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in quarry_lines(folder)))
        plan = ImportPlan(file, LogFormat.QUARRY, KEY, False, lambda _: {}, str)
        try:
            return await import_file(log, ImpressionLog(log), plan, lambda _: asyncio.sleep(0))
        finally:
            await log.close()

    with tempfile.TemporaryDirectory() as work:
        tally = asyncio.run(run(Path(work)))
        return tally, list(observed_pages(Path(work) / "feedback.db", KEY))


def read_tasks(folder: Path) -> Tasks:
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    task_of = {query["_id"]: query["topic_id"] for query in queries}
    judged: dict[str, dict[str, int]] = {task: {} for task in task_of.values()}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged[task_of[query]][document] = int(grade)
    topics = [json.loads(line) for line in (folder / "topics.jsonl").read_text().splitlines()]
    description = {topic["topic_id"]: topic["description"] for topic in topics}
    of_query: dict[str, tuple[str, ...]] = {}
    asked = [(query["text"], query["topic_id"]) for query in queries]
    for text, task in [*asked, *((text, task) for task, text in description.items())]:
        of_query[question_key(text)] = tuple({*of_query.get(question_key(text), ()), task})
    return Tasks(of_query, judged, description)


def as_one_query(pages: Iterable[ObservedPage], tasks: Tasks) -> list[ObservedPage]:
    """Each page as an answer to the description of its task."""
    return [
        replace(page, query=tasks.description[min(tasks.of_query[question_key(page.query)])])
        for page in pages
    ]


def gathered(log: ClickLog, model: str, sources: Sources, feedback: bool = True) -> Pairs:
    """Clicked documents as positives, and the candidates of `quarry` with all that is known of them."""
    estimates = CLICK_MODELS[model].fit(log).estimates
    positives = join_positives([], above_floor(log, estimates, 0.0), sources.corpus).queries
    evidence = Feedback(log, estimates, sources.corpus) if feedback else None
    task = assemble(QUARRY, positives, sources, feedback=evidence)
    pairs = gatherer_for(task, QUARRY).of(0, len(positives)).pairs
    found = [pair for pair in pairs if len(pair)]
    return Pairs(found, [positives[pair.query].text for pair in found])


def mined_by_rule(of: Pairs, kept: Kept, count: int, judge: "Judge") -> Iterator[Row]:
    for number, (pair, text) in enumerate(zip(of.pairs, of.texts, strict=True)):
        hard, chosen = hardness(pair, QUARRY.lexical), kept(pair)
        others = [
            (float(hard[i]), verdict)
            for i in np.flatnonzero(~chosen & ~pair.clicked).tolist()
            if (verdict := judge(text, int(pair.documents[i]))) is not None
        ]
        for i in sorted(np.flatnonzero(chosen).tolist(), key=lambda i: -hard[i])[:count]:
            nearest = min(others, key=lambda one: abs(one[0] - hard[i]), default=(0.0, None))[1]
            verdict = judge(text, int(pair.documents[i]))
            yield Row(judge.task(text), number, verdict, "", float(hard[i]), nearest)


def mined_by_preset(
    of: Pairs, preset: Quarry | None, count: int, corpus: int, judge: "Judge"
) -> Iterator[Row]:
    """``None``: documents at random."""
    for number, (pair, text) in enumerate(zip(of.pairs, of.texts, strict=True)):
        rng = pair_rng(0, text, str(pair.positive.document))
        if preset is None:
            chosen = [Chosen(n, "", "") for n in random_documents(pair.excluded, count, corpus, rng)]
        else:
            chosen = [one for one in preset.select(pair, count, corpus, rng) if one.label == 0]
        place = {int(document): i for i, document in enumerate(pair.documents)}
        hard = hardness(pair, QUARRY.lexical)
        for one in chosen:
            i = place.get(one.document)
            h = float("nan") if i is None else float(hard[i])
            yield Row(judge.task(text), number, judge(text, one.document), one.rule, h)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    tasks: Tasks
    ids: tuple[str, ...]

    def __call__(self, text: str, document: int) -> bool | None:
        return self.tasks.relevant(text, self.ids[document])

    def task(self, text: str) -> str:
        return min(self.tasks.of_query[question_key(text)])


def share(rows: list[Row], of: Callable[[Row], bool | None]) -> list[float]:
    """Mean of what is known, with its interval by bootstrap over tasks."""
    return interval([(row.task, value) for row in rows if (value := of(row)) is not None])


def interval(known: list[tuple[str, bool]]) -> list[float]:
    tasks = sorted({task for task, _ in known})
    if not tasks:
        return []
    number = {task: i for i, task in enumerate(tasks)}
    at = np.array([number[task] for task, _ in known])
    count = np.bincount(at).astype(np.float64)
    total = np.bincount(at, [value for _, value in known])
    samples = np.random.default_rng(0).integers(len(tasks), size=(RESAMPLES, len(tasks)))
    drawn = total[samples].sum(axis=1) / count[samples].sum(axis=1)
    return [round(float(v), 4) for v in (total.sum() / count.sum(), *np.quantile(drawn, [0.025, 0.975]))]


def difference(rows: list[Row]) -> list[float]:
    """Relevant share less that of the matched candidates, in the same resamples."""
    both = [row for row in rows if row.relevant is not None and row.matched is not None]
    return interval([(row.task, float(row.relevant) - float(row.matched)) for row in both])  # type: ignore[arg-type,misc]


def line(rows: list[Row], pairs: int) -> dict[str, Any]:
    hard = [row.hardness for row in rows if np.isfinite(row.hardness)]
    return {
        "rows": len(rows),
        "judged": sum(row.relevant is not None for row in rows),
        "tasks": len({row.task for row in rows if row.relevant is not None}),
        "pairs": pairs,
        "coverage": round(len({row.pair for row in rows}) / pairs, 4),
        "relevant": share(rows, lambda row: row.relevant),
        "relevant_of_all": share(rows, lambda row: bool(row.relevant)),
        "matched": share([row for row in rows if row.relevant is not None], lambda row: row.matched),
        "less_matched": difference(rows),
        "hardness": round(float(np.mean(hard)), 3) if hard else None,
    }


def measured(
    log: ClickLog, sources: Sources, tasks: Tasks, count: int
) -> Iterator[tuple[str, list[Row], int]]:
    """Name of a rule, what it mined, and of how many pairs."""
    judge = Judge(tasks, sources.corpus.ids)
    of = {model: gathered(log, model, sources) for model in MODELS}
    size, default = len(sources.corpus), of[DEFAULT_MODEL]
    for name, (model, kept) in RULES.items():
        yield name, list(mined_by_rule(of[model], kept, count, judge)), len(of[model].pairs)
    yield "random", list(mined_by_preset(default, None, count, size, judge)), len(default.pairs)
    blind = gathered(log, DEFAULT_MODEL, sources, feedback=False)
    presets = {
        "quarry": (default, QUARRY),
        "quarry, clicks not read": (blind, QUARRY),
        f"quarry, overlap under {APART} refutes": (default, replace(QUARRY, apart=APART)),
        "quarry, overlap drops nothing": (default, replace(QUARRY, together=1.0)),
        **{
            f"quarry, refusals {least:g}": (default, replace(QUARRY, refusals=least))
            for least in (0.0, 0.5, 1.0, 2.0, 5.0, 1e6)
        },
    }
    for name, (pairs, preset) in presets.items():
        rows = list(mined_by_preset(pairs, preset, count, size, judge))
        yield name, rows, len(pairs.pairs)
        if name in ("quarry", f"quarry, overlap under {APART} refutes", "quarry, refusals 1"):
            for rung in sorted({row.rung for row in rows}):
                yield f"{name}: {rung}", [row for row in rows if row.rung == rung], len(pairs.pairs)


def binned(year: int, log: ClickLog, judge: Callable[[str, str], bool | None]) -> Iterator[dict[str, Any]]:
    """Pairs displayed and never clicked, by how often they were examined; those that were clicked last."""
    for model in MODELS:
        estimates = CLICK_MODELS[model].fit(log).estimates
        found: dict[tuple[float, float], list[tuple[str, bool]]] = {}
        for query, document, clicks, refusals in zip(
            estimates.query, estimates.document, estimates.clicks, estimates.refusals, strict=True
        ):
            verdict = judge(log.queries[query], log.documents[document])
            at = int(np.searchsorted(BINS, refusals, side="right")) - 1
            key = (BINS[at], BINS[at + 1]) if clicks == 0 else (-1.0, -1.0)
            if verdict is not None:
                found.setdefault(key, []).append((log.queries[query], verdict))
        for (low, high), known in sorted(found.items()):
            yield {
                "result": "bins",
                "log": year,
                "model": model,
                "examined": "clicked" if low < 0 else [low, high if np.isfinite(high) else None],
                "pairs": len(known),
                "queries": len({query for query, _ in known}),
                "relevant": interval(known),
            }


def bins(log_2012: ClickLog, tasks: Tasks) -> Iterator[dict[str, Any]]:
    yield from binned(2012, log_2012, tasks.relevant)
    if (TREC_2014 / "events.jsonl.gz").exists():
        grades = {question_key(text): of for text, of in trec_judgments(TREC_2014).items()}

        def judge(text: str, document: str) -> bool | None:
            grade = grades.get(text, {}).get(document)
            return None if grade is None else grade > 0

        yield from binned(2014, ClickLog.of(trec_pages(TREC_2014)), judge)


def emit(result: Mapping[str, Any]) -> None:
    print(json.dumps({"benchmark": "click_evidence", **result}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps vectors and models")
    parser.add_argument("--negatives", type=int, default=7)
    options = parser.parse_args()
    folder = COLLECTIONS / NAME
    if not (folder / "events.jsonl.gz").exists():
        emit({"skipped": f"{folder} is absent"})
        return
    tasks = read_tasks(folder)
    tally, pages = imported(folder)
    clicked = [page for page in pages if any(page.clicked)]
    emit(
        {
            "result": "log",
            "impressions": tally.impressions,
            "events": tally.events,
            "rejected": tally.rejected,
            "pages": len(pages),
            "clicked_pages": len(clicked),
        }
    )
    log = ClickLog.of(pages)
    for result in bins(log, tasks):
        emit(result)
    sources = sources_of(read_judged(NAME), options.data)
    for unit, of in (("query", log), ("task", ClickLog.of(as_one_query(pages, tasks)))):
        for name, rows, pairs in measured(of, sources, tasks, options.negatives):
            emit({"result": "rules", "unit": unit, "half": "all", "rule": name, **line(rows, pairs)})
            for half in HALVES:
                some = [row for row in rows if HALVES[hashed(f"{row.task} half") % 2] == half]
                told = share(some, lambda row: row.relevant)
                emit({"result": "halves", "unit": unit, "half": half, "rule": name, "rows": len(some),
                      "judged": sum(row.relevant is not None for row in some), "relevant": told,
                      "less_matched": difference(some)})  # fmt: skip


if __name__ == "__main__":
    main()
