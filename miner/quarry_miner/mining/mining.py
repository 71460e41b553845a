"""Mines a task by a preset. Any range of queries gives what it gives beside the others."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

import numpy as np

from quarry.errors import FailedPreconditionError
from quarry_miner.examples import Chosen, Example, Mined, PairCandidates
from quarry_miner.mining.candidates import Gatherer
from quarry_miner.mining.task import MiningTask
from quarry_miner.presets.base import Need, Preset

BLOCK_QUERIES = 1_024
"""Queries that are mined together; results do not depend on it."""
JUDGED_BLOCK_QUERIES = 64
"""The same with a re-ranker, which takes seconds for each query."""

Progress = Callable[[int, int], None]
"""Called with queries done and queries in all."""


@dataclass(frozen=True, slots=True, eq=False)
class MinedQuery:
    """The result of one query.

    Attributes:
        place: of the query in the task, from 0.
        copies: candidates left out because their text is a positive's.
    """

    place: int
    examples: list[Example]
    pairs: int
    covered: int
    positive_first: int
    copies: int


def mine(
    task: MiningTask,
    preset: Preset,
    count: int,
    seed: int,
    progress: Progress | None = None,
    block_queries: int = 0,
) -> Mined:
    """Mines at most ``count`` negatives for each (query, positive) pair of the task. Blocks.

    The same task, preset, count and seed give the same examples, whatever ``block_queries`` (0: the default).

    Raises:
        FailedPreconditionError: the preset needs clicks or a re-ranker, and the task has none.
        UnavailableError: a live arm does not answer.
    """
    gatherer = make_gatherer(task, preset)
    size = block_queries or (BLOCK_QUERIES if task.judge is None else JUDGED_BLOCK_QUERIES)
    found: list[MinedQuery] = []
    for start in range(0, len(task.queries), size):
        end = min(start + size, len(task.queries))
        found += mine_range(task, preset, count, seed, gatherer, start, end)
        if progress:
            progress(end, len(task.queries))
    copies = sum(one.copies for one in found)
    told = f"{copies} candidates were left out: their text is that of a positive of the query"
    return Mined(
        examples=[example for one in found for example in one.examples],
        pairs=sum(one.pairs for one in found),
        covered=sum(one.covered for one in found),
        positive_first=sum(one.positive_first for one in found),
        members=gatherer.members,
        preset=preset.name,
        parameters=read_parameters(preset),
        notes=(*task.space.notes, *task.notes, *((told,) if copies else ())),
    )


def make_gatherer(task: MiningTask, preset: Preset) -> Gatherer:
    """Gathers what the preset reads. Raises as ``check_needs``."""
    check_needs(task, preset)
    told = Need.CALIBRATION in preset.needs and task.knows_relevance
    return Gatherer(task, judged=Need.RERANKER in preset.needs and not told)


def check_needs(task: MiningTask, preset: Preset) -> None:
    """Raises FailedPreconditionError, which says what to do."""
    if Need.CLICKS in preset.needs and not task.has_clicks:
        raise FailedPreconditionError(
            f"the preset {preset.name} reads clicks, and there are none: ask for feedback",
            preset=preset.name,
            need=Need.CLICKS,
        )
    if Need.RERANKER in preset.needs and task.judge is None:
        raise FailedPreconditionError(
            f"the preset {preset.name} reads a re-ranker, and the collection has none",
            preset=preset.name,
            need=Need.RERANKER,
        )
    if Need.CALIBRATION in preset.needs and not task.knows_relevance and _describe_missing(task):
        raise FailedPreconditionError(
            f"the preset {preset.name} reads probabilities of relevance, and {_describe_missing(task)}: "
            "promote a version that was trained with judged queries under the ranking configuration that "
            "serves, and "
            "keep the member fused, or use another preset",
            preset=preset.name,
            need=Need.CALIBRATION,
        )


def _describe_missing(task: MiningTask) -> str:
    return "" if task.judge is None else task.judge.belief.lacking


def read_parameters(preset: Preset) -> dict[str, float]:
    """Reads a preset's constants by name."""
    values: dict[str, Any] = asdict(preset)  # type: ignore[call-overload]
    return {name: float(value) for name, value in values.items()}


def make_pair_rng(seed: int, query_id: str, positive_id: str) -> np.random.Generator:
    """Makes the only source of chance for a pair, so that no result depends on what was mined before."""
    return cast(np.random.Generator, _PairRng(seed, query_id, positive_id))


class _PairRng:
    """A generator made when first drawn from: seeding takes longer than most rules, which never draw."""

    def __init__(self, seed: int, query_id: str, positive_id: str) -> None:
        self._parts = seed, query_id, positive_id

    @cached_property
    def _generator(self) -> np.random.Generator:
        seed, query_id, positive_id = self._parts
        digest = hashlib.blake2b(f"{seed}\0{query_id}\0{positive_id}".encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


def mine_range(
    task: MiningTask, preset: Preset, count: int, seed: int, gatherer: Gatherer, start: int, end: int
) -> list[MinedQuery]:
    """Mines the queries from place ``start`` to before ``end``, gathered together."""
    gathered = gatherer.gather(start, end)
    found = []
    for place, group in groupby(gathered.pairs, attrgetter("query")):
        pairs = list(group)
        examples: list[Example] = []
        covered = positive_first = 0
        for pair in pairs:
            rng = make_pair_rng(seed, task.queries[place].id, task.corpus.ids[pair.positive.document])
            chosen = preset.select(pair, count, len(task.corpus), rng)
            covered += any(one.label == 0 for one in chosen)
            positive_first += not len(pair) or bool(pair.s_qd[0] <= pair.s_qp)
            examples += _make_examples(task, preset, pair, chosen)
        examples = _drop_contradictions(examples)
        copies = gathered.copies[place - start]
        found.append(MinedQuery(place, examples, len(pairs), covered, positive_first, copies))
    return found


def _drop_contradictions(examples: list[Example]) -> list[Example]:
    """Drops from a query's examples the negatives that another of its positives had re-labelled as
    relevant."""
    relevant = {example.negative_id for example in examples if example.label}
    return [example for example in examples if example.label or example.negative_id not in relevant]


def _make_examples(
    task: MiningTask, preset: Preset, pair: PairCandidates, chosen: list[Chosen]
) -> Iterator[Example]:
    query, ids = task.queries[pair.query], task.corpus.ids
    places = {n: place for place, n in enumerate(pair.documents.tolist())} if chosen else {}
    outside = [one.document for one in chosen if one.document not in places]
    measured = _compute_outside(task, pair, query.text, np.array(outside, np.int32)) if outside else {}
    for one in chosen:
        place = places.get(one.document)
        if place is None:
            s_qd, s_pd = measured[one.document]
        else:
            s_qd, s_pd = pair.s_qd.item(place), pair.s_pd.item(place)
        members = {} if place is None else _list_members(pair, place)
        yield Example(
            query_id=query.id,
            query=query.text,
            positive_id=ids[pair.positive.document],
            negative_id=ids[one.document],
            label=one.label,
            weight=one.weight * pair.positive.weight,
            preset=preset.name,
            rule=one.rule,
            rung=one.rung,
            agreement=len(members),
            s_qd=s_qd,
            s_qp=pair.s_qp,
            s_pd=s_pd,
            members=members,
            evidence={} if place is None else _list_evidence(pair, place),
        )


def _compute_outside(
    task: MiningTask, pair: PairCandidates, text: str, documents: np.ndarray[Any, np.dtype[np.int32]]
) -> dict[int, tuple[float, float]]:
    """Computes s_qd and s_pd of chosen documents that no member listed, such as random ones."""
    matrix = task.space.documents
    s_qd = matrix.compute_similarities(task.space.queries.embed([text]), documents)[0]
    s_pd = matrix.compare_documents(pair.positive.document, documents)
    return {int(n): (float(q), float(p)) for n, q, p in zip(documents, s_qd, s_pd, strict=True)}


def _list_members(pair: PairCandidates, place: int) -> dict[str, tuple[int, float]]:
    return {
        name: (rank, pair.scores.item(m, place))
        for m, name in enumerate(pair.members)
        if (rank := pair.ranks.item(m, place))
    }


def _list_evidence(pair: PairCandidates, place: int) -> dict[str, float]:
    known: dict[str, float] = {}
    if (overlap := pair.coclick.item(place)) == overlap:
        known["coclick"] = overlap
    if (believed := pair.rerank.item(place)) == believed:
        known["rerank"] = believed
    if shown := pair.shown.item(place):
        known |= {"shown": shown, "refusals": pair.refusals.item(place)}
        known["clicked"] = float(pair.clicked[place])
    if pair.clicked_near.item(place):
        known["clicked_near"] = 1.0
    return known
