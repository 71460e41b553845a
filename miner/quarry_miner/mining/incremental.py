"""Mines a task block by block, and only the queries for which something has changed since an earlier set.

What is kept equals what mining from scratch would give: a query's rows are taken over only if its fingerprint
is the same. Lists are always asked for anew; they cost little beside judging and selecting.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from quarry.mining.presets import DRAWS_FROM_CORPUS, DRAWS_FROM_REQUEST, READS_SCORES
from quarry_miner.examples import Example
from quarry_miner.members.remembered_lists import RememberingMember
from quarry_miner.mining.candidates import Gatherer
from quarry_miner.mining.earlier_set import EarlierSet, with_scores
from quarry_miner.mining.example_tables import make_table
from quarry_miner.mining.fingerprints import Fingerprints
from quarry_miner.mining.mining import MinedQuery, make_gatherer, mine_range
from quarry_miner.mining.task import MiningTask
from quarry_miner.mining.work import Block, QueryFacts, Work
from quarry_miner.presets.base import Preset

BLOCK_QUERIES = 64
"""Queries between two checkpoints; results do not depend on it."""
RANDOM = "random"

Progress = Callable[[int, int], None]
"""Called with queries done and queries in all."""


@dataclass(frozen=True, slots=True)
class NegativeChoice:
    """The choice of negatives: ``count`` for each pair, by ``preset``, with ``seed``."""

    preset: Preset
    count: int
    seed: int


class IncrementalMining:
    """Mines one task into one folder of work.

    Args:
        scope: names what is the same for all queries; see ``Fingerprints``.
        versions: of documents, by id.
        earlier: None mines everything.
    """

    def __init__(
        self,
        task: MiningTask,
        choice: NegativeChoice,
        scope: str,
        versions: Mapping[str, int],
        earlier: EarlierSet | None,
    ) -> None:
        sizes = [len(_list_excluded(task, place)) for place in range(len(task.queries))]
        depth = task.depth + max(sizes, default=0)
        self._members = tuple(RememberingMember(member, depth) for member in task.members)
        self._task, self._choice = replace(task, members=self._members), choice
        reads_scores = choice.preset.name in READS_SCORES
        self._fingerprints = Fingerprints(self._task, self._members, scope, versions, reads_scores)
        self._earlier = earlier
        self._whole = _hash_whole(task, choice.preset.name)
        self._gatherer: Gatherer | None = None

    def run(self, work: Work, progress: Progress) -> None:
        """Goes on after the blocks that ``work`` holds."""
        total = len(self._task.queries)
        for start in range(len(work.blocks) * BLOCK_QUERIES, total, BLOCK_QUERIES):
            progress(start, total)
            end = min(start + BLOCK_QUERIES, total)
            work.add(*self._make_block(start, end))
        progress(total, total)

    def _make_block(self, start: int, end: int) -> tuple[Block, pa.Table]:
        texts = [query.text for query in self._task.queries[start:end]]
        for member in self._members:
            member.remember(texts)
        fingerprints = self._fingerprints.compute(start, end)
        found = [self._take_over(start + i, fingerprint) for i, fingerprint in enumerate(fingerprints)]
        for first, after in _find_runs([one is None for one in found]):
            mined = self._mine_run(start + first, fingerprints[first:after])
            found[first:after] = mined
        facts, tables = zip(*(one for one in found if one is not None), strict=True)
        return Block(queries=list(facts)), pa.concat_tables(tables)

    def _take_over(self, place: int, fingerprint: str) -> tuple[QueryFacts, pa.Table] | None:
        query = self._task.queries[place]
        if self._earlier is None:
            return None
        found = self._earlier.find(query.id, fingerprint, self._whole)
        if found is None:
            return None
        ids = self._task.corpus.ids
        scores = {
            member.name: {ids[number]: score for number, score in member.read_scores(query.text).items()}
            for member in self._members
        }
        return found[0], with_scores(found[1], scores)

    def _mine_run(self, start: int, fingerprints: Sequence[str]) -> list[tuple[QueryFacts, pa.Table]]:
        """Mines as many queries from place ``start`` on as there are fingerprints, gathered together."""
        if self._gatherer is None:
            self._gatherer = make_gatherer(self._task, self._choice.preset)
        preset, count, seed = self._choice.preset, self._choice.count, self._choice.seed
        end = start + len(fingerprints)
        each = mine_range(self._task, preset, count, seed, self._gatherer, start, end)
        return [
            (self._make_facts(*one), make_table(one[0].examples))
            for one in zip(each, fingerprints, strict=True)
        ]

    def _make_facts(self, mined: MinedQuery, fingerprint: str) -> QueryFacts:
        return QueryFacts(
            query_id=self._task.queries[mined.place].id,
            fingerprint=fingerprint,
            whole=self._whole if self._depends_on_whole(mined.examples, mined.pairs) else "",
            rows=len(mined.examples),
            pairs=mined.pairs,
            covered=mined.covered,
            positive_first=mined.positive_first,
            copies=mined.copies,
            reused=False,
        )

    def _depends_on_whole(self, examples: Sequence[Example], pairs: int) -> bool:
        """Random draws are from the numbers of all documents, so each of them depends on all."""
        name = self._choice.preset.name
        if name in DRAWS_FROM_REQUEST:
            return True
        if name not in DRAWS_FROM_CORPUS:
            return False
        full = len(examples) >= pairs * self._choice.count
        return not full or any(example.rung == RANDOM for example in examples)


def _find_runs(wanted: Sequence[bool]) -> list[tuple[int, int]]:
    """Finds where unbroken runs of true begin and end."""
    borders = np.flatnonzero(np.diff(np.array([False, *wanted, False], np.int8)))
    return list(zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True))


def _list_excluded(task: MiningTask, place: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    numbers = [positive.document for positive in task.queries[place].positives]
    return task.corpus.with_copies(np.array(numbers, np.int32))


def _hash_whole(task: MiningTask, preset: str) -> str:
    """Hashes everything that can be drawn from."""
    digest = hashlib.blake2b(digest_size=16)
    for id in task.corpus.ids:
        digest.update(id.encode("utf-8", "surrogatepass") + b"\0")
    if preset in DRAWS_FROM_REQUEST:
        for query in task.queries:
            digest.update(np.array([p.document for p in query.positives], np.int64).tobytes())
    return digest.hexdigest()
