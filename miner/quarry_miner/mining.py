"""Mines a task by a preset, block by block, so that a job can stop after any block and go on there."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quarry.errors import FailedPreconditionError
from quarry_miner.candidates import Gatherer
from quarry_miner.examples import Chosen, Example, Mined, PairCandidates
from quarry_miner.presets.base import Need, Preset
from quarry_miner.task import MiningTask

BLOCK_QUERIES = 1_024
"""Queries that are mined together; results do not depend on it."""
JUDGED_BLOCK_QUERIES = 64
"""The same with a re-ranker, which takes seconds for each query."""

Progress = Callable[[int, int], None]
"""Called with queries done and queries in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What one block of queries gave.

    Attributes:
        number: from 0.
        queries: in it.
        copies: candidates left out because their text is a positive's.
    """

    number: int
    queries: int
    examples: list[Example]
    pairs: int
    covered: int
    positive_first: int
    copies: int


def mine(task: MiningTask, preset: Preset, count: int, seed: int, progress: Progress | None = None) -> Mined:
    """At most ``count`` negatives for each (query, positive) pair of the task. Blocks.

    The same task, preset, count and seed give the same examples.

    Raises:
        FailedPreconditionError: the preset needs clicks or a re-ranker, and the task has none.
        UnavailableError: a live arm does not answer.
    """
    blocks = []
    done = 0
    for block in mine_blocks(task, preset, count, seed):
        blocks.append(block)
        done += block.queries
        if progress:
            progress(done, len(task.queries))
    return joined(task, preset, blocks)


def mine_blocks(
    task: MiningTask, preset: Preset, count: int, seed: int, first: int = 0, size: int = 0
) -> Iterator[Block]:
    """Blocks of ``size`` queries (0: the default) from number ``first`` on, each made when it is asked for.

    Raises as ``mine``.
    """
    gatherer = gatherer_for(task, preset)
    size = size or (BLOCK_QUERIES if task.judge is None else JUDGED_BLOCK_QUERIES)
    for number, start in enumerate(range(0, len(task.queries), size)):
        if number >= first:
            end = min(start + size, len(task.queries))
            yield mine_range(task, preset, count, seed, gatherer, start, end, number)


def gatherer_for(task: MiningTask, preset: Preset) -> Gatherer:
    """Gathers what the preset reads. Raises as ``check_needs``."""
    check_needs(task, preset)
    return Gatherer(task, judged=Need.RERANKER in preset.needs)


def joined(task: MiningTask, preset: Preset, blocks: Iterable[Block]) -> Mined:
    """All of a task's blocks, in their order, as one set."""
    kept = list(blocks)
    copies = sum(block.copies for block in kept)
    told = (
        (f"{copies} candidates were left out: their text is that of a positive of the query",)
        if copies
        else ()
    )
    return Mined(
        examples=[example for block in kept for example in block.examples],
        pairs=sum(block.pairs for block in kept),
        covered=sum(block.covered for block in kept),
        positive_first=sum(block.positive_first for block in kept),
        members=Gatherer(task, judged=False).members,
        preset=preset.name,
        parameters=parameters_of(preset),
        notes=(*task.space.notes, *task.notes, *told),
    )


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


def parameters_of(preset: Preset) -> dict[str, float]:
    """A preset's constants by name."""
    values: dict[str, Any] = asdict(preset)  # type: ignore[call-overload]
    return {name: float(value) for name, value in values.items()}


def pair_rng(seed: int, query_id: str, positive_id: str) -> np.random.Generator:
    """The only source of chance for a pair, so that no result depends on what was mined before."""
    digest = hashlib.blake2b(f"{seed}\0{query_id}\0{positive_id}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def mine_range(
    task: MiningTask,
    preset: Preset,
    count: int,
    seed: int,
    gatherer: Gatherer,
    start: int,
    end: int,
    number: int = 0,
) -> Block:
    """Queries from place ``start`` to before ``end``, as one block."""
    gathered = gatherer.of(start, end)
    examples: list[Example] = []
    covered = positive_first = 0
    for pair in gathered.pairs:
        query_id, positive_id = task.queries[pair.query].id, task.corpus.ids[pair.positive.document]
        rng = pair_rng(seed, query_id, positive_id)
        chosen = preset.select(pair, count, len(task.corpus), rng)
        covered += any(one.label == 0 for one in chosen)
        positive_first += not len(pair) or bool(pair.s_qd[0] <= pair.s_qp)
        examples += _examples(task, preset, pair, chosen)
    return Block(number, end - start, examples, len(gathered.pairs), covered, positive_first, gathered.copies)


def _examples(
    task: MiningTask, preset: Preset, pair: PairCandidates, chosen: list[Chosen]
) -> Iterator[Example]:
    query, ids = task.queries[pair.query], task.corpus.ids
    places = {int(n): place for place, n in enumerate(pair.documents.tolist())} if chosen else {}
    outside = np.array([one.document for one in chosen if one.document not in places], np.int32)
    measured = _outside(task, pair, query.text, outside)
    for one in chosen:
        place = places.get(one.document)
        s_qd, s_pd = measured[one.document] if place is None else (pair.s_qd[place], pair.s_pd[place])
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
            agreement=0 if place is None else int((pair.ranks[:, place] > 0).sum()),
            s_qd=float(s_qd),
            s_qp=pair.s_qp,
            s_pd=float(s_pd),
            members={} if place is None else _members(pair, place),
            evidence={} if place is None else _evidence(pair, place),
        )


def _outside(
    task: MiningTask, pair: PairCandidates, text: str, documents: np.ndarray[Any, np.dtype[np.int32]]
) -> dict[int, tuple[float, float]]:
    """s_qd and s_pd of chosen documents that no member listed, such as random ones."""
    if not len(documents):
        return {}
    matrix = task.space.documents
    s_qd = matrix.similarities(task.space.queries.embed([text]), documents)[0]
    s_pd = matrix.between(pair.positive.document, documents)
    return {int(n): (float(q), float(p)) for n, q, p in zip(documents, s_qd, s_pd, strict=True)}


def _members(pair: PairCandidates, place: int) -> dict[str, tuple[int, float]]:
    ranks, scores = pair.ranks[:, place].tolist(), pair.scores[:, place].tolist()
    return {
        name: (rank, score) for name, rank, score in zip(pair.members, ranks, scores, strict=True) if rank
    }


def _evidence(pair: PairCandidates, place: int) -> dict[str, float]:
    known: dict[str, float] = {}
    if (overlap := float(pair.coclick[place])) == overlap:
        known["coclick"] = overlap
    if (believed := float(pair.rerank[place])) == believed:
        known["rerank"] = believed
    if pair.shown[place]:
        known |= {"shown": float(pair.shown[place]), "refusals": float(pair.refusals[place])}
        known["clicked"] = float(pair.clicked[place])
    if pair.clicked_near[place]:
        known["clicked_near"] = 1.0
    return known
