"""From the members' lists to what presets look at: candidates by (query, positive) pair, evidence joined."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quarry.mining.members import RERANKER
from quarry_miner.evidence.pair_evidence import Seen
from quarry_miner.examples import Bool, Float32, Int32, MiningQuery, PairCandidates
from quarry_miner.members.matrix import Int64
from quarry_miner.members.members import NO_DOCUMENT, Listed
from quarry_miner.members.reranker_member import NO_BELIEF, order_by_score
from quarry_miner.mining.task import MiningTask


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The pairs of some queries, in their order, and of each how many listed documents copy a positive."""

    pairs: list[PairCandidates]
    copies: list[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Some queries and their ``p`` pairs, which are in the queries' order.

    Attributes:
        start: place of the first query in the task.
        rows: of each pair, its query's place among these, int64, shape ``(p,)``.
        documents: of each pair, its positive, int32, shape ``(p,)``.
        excluded: of each query, its positives and their copies.
    """

    start: int
    queries: Sequence[MiningQuery]
    texts: list[str]
    rows: Int64
    documents: Int32
    excluded: list[Int32]

    @classmethod
    def from_queries(cls, task: MiningTask, start: int, end: int) -> "_Asked":
        queries = task.queries[start:end]
        own = [np.array([p.document for p in query.positives], np.int32) for query in queries]
        return cls(
            start,
            queries,
            [query.text for query in queries],
            np.repeat(np.arange(len(queries)), [len(some) for some in own]),
            np.concatenate([np.empty(0, np.int32), *own]),
            [task.corpus.with_copies(some) for some in own],
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Union:
    """The documents that members list for some queries together; ``u`` in all, ordered by query and number.

    Attributes:
        borders: query ``i`` has ``borders[i]`` to ``borders[i + 1]``.
        documents: int32, shape ``(u,)``.
        ranks: int32, shape ``(m, u)``; so are ``scores``.
        positive_ranks: of each pair's positive, int32, shape ``(m, p)``; so are ``positive_scores``.
    """

    borders: Int64
    documents: Int32
    ranks: Int32
    scores: Float32
    positive_ranks: Int32
    positive_scores: Float32

    @property
    def owners(self) -> Int64:
        """The query that each document is listed for."""
        return np.repeat(np.arange(len(self.borders) - 1), np.diff(self.borders))


class Gatherer:
    """Makes pairs for a task. What it gives for a query does not depend on the queries beside it."""

    def __init__(self, task: MiningTask, judged: bool) -> None:
        """Takes in ``judged`` whether candidates get the judge's score, and its probability if its scores
        tell one."""
        self._task = task
        self._judge = task.judge if judged or task.judge_is_member else None
        self.members = (*(m.name for m in task.members), *([RERANKER] if task.judge_is_member else []))
        self._batch = np.unique([p.document for q in task.queries for p in q.positives]).astype(np.int32)

    def gather(self, start: int, end: int) -> Gathered:
        """Gathers the pairs of the queries from place ``start`` to before ``end``."""
        asked = _Asked.from_queries(self._task, start, end)
        lists, copies = self._make_lists(asked)
        union = _join_lists(lists, asked, self._task.depth, self._task.corpus.telling)
        logits = self._compute_logits(asked, union)
        if self._task.judge_is_member:
            judged = [order_by_score(*one) for one in logits]
            rows = [(d.tolist(), s.tolist()) for d, s in judged]
            lists = [*lists, Listed.from_rows(rows, max((len(d) for d, _ in judged), default=0))]
            union = _join_lists(lists, asked, self._task.depth, self._task.corpus.telling)
        union, s_qd = self._sort_by_nearness(asked, union, lists)
        return Gathered(list(self._make_pairs(asked, union, s_qd, logits, _read_relevance(lists))), copies)

    def _make_lists(self, asked: _Asked) -> tuple[list[Listed], list[int]]:
        wordless = min(len(self._task.corpus.wordless), self._task.depth)
        depth = self._task.depth + wordless + max((len(numbers) for numbers in asked.excluded), default=0)
        lists = [member.search(asked.texts, depth) for member in self._task.members]
        listed = [0] * len(asked.queries)
        for row, (every, query) in enumerate(zip(asked.excluded, asked.queries, strict=True)):
            if lists and len(every) > len(query.positives):
                found = np.concatenate([one.documents[row] for one in lists])
                own = [positive.document for positive in query.positives]
                listed[row] = int(np.isin(np.setdiff1d(every, own), found).sum())
        return lists, listed

    def _compute_logits(self, asked: _Asked, union: _Union) -> list[tuple[Int32, Float32]]:
        """Computes for each query documents (its positives last) and their logits; nothing without a judge.

        A re-ranker is exact to some 1e-6 whatever else is in a batch, so it is asked query by query.
        """
        judge = self._judge
        if judge is None:
            return []
        own = np.split(asked.documents, np.searchsorted(asked.rows, np.arange(1, len(asked.queries))))
        read = [
            np.concatenate([documents, some]).astype(np.int32)
            for documents, some in zip(np.split(union.documents, union.borders[1:-1]), own, strict=True)
        ]
        return [
            (some, judge.compute_logits([text], [some])[0])
            for text, some in zip(asked.texts, read, strict=True)
        ]

    def _sort_by_nearness(
        self, asked: _Asked, union: _Union, lists: Sequence[Listed]
    ) -> tuple[_Union, Float32]:
        """Sorts each query's documents in the union by s_qd; returns it and s_qd, shape ``(u,)``.

        What a member has measured in the same space is not measured again.
        """
        space = self._task.space
        s_qd = np.full(len(union.documents), np.nan, np.float32)
        for scores, one in zip(union.scores, lists, strict=True):
            if one.space is space:
                s_qd = scores.copy()
        unknown = np.isnan(s_qd)
        owners = union.owners
        for row in np.unique(owners[unknown]).tolist():
            places = np.flatnonzero(unknown[union.borders[row] : union.borders[row + 1]]) + union.borders[row]
            vector = space.queries.embed([asked.texts[row]])
            s_qd[places] = space.documents.compute_similarities(vector, union.documents[places])[0]
        order = np.lexsort((-s_qd, owners))  # stable: ties stay in order of number
        ranks, scores = union.ranks[:, order], union.scores[:, order]
        return replace(union, documents=union.documents[order], ranks=ranks, scores=scores), s_qd[order]

    def _make_pairs(
        self,
        asked: _Asked,
        union: _Union,
        s_qd: Float32,
        logits: Sequence[tuple[Int32, Float32]],
        relevance: Sequence[Mapping[int, float]],
    ) -> Iterator[PairCandidates]:
        space = self._task.space
        vectors = space.queries.embed(asked.texts)
        s_qp = space.documents.compare_pairs(vectors[asked.rows], asked.documents)
        seen = self._observe(asked, union)
        wordless = self._task.corpus.wordless
        barred = [np.union1d(some, wordless) if len(wordless) else some for some in asked.excluded]
        borders = union.borders.tolist()
        unjudged = np.full(int(np.diff(union.borders).max(initial=0)) + 1, np.nan, np.float32)
        belief = self._judge.belief if self._judge else NO_BELIEF
        positives = (positive for query in asked.queries for positive in query.positives)
        rows = zip(asked.rows.tolist(), positives, s_qp.tolist(), seen, strict=True)
        for place, (row, positive, similarity, evidence) in enumerate(rows):
            some = slice(borders[row], borders[row + 1])
            documents = union.documents[some]
            judged = unjudged[: len(documents) + 1]
            if logits:
                read, scores = logits[row]
                wanted = np.append(documents, np.int32(positive.document))
                judged = scores[_find_places(read, wanted)]
            rerank = belief.estimate_probabilities(judged)
            if relevance:
                wanted = np.append(documents, np.int32(positive.document))
                rerank = np.array([relevance[row].get(n, np.nan) for n in wanted.tolist()], np.float32)
            yield PairCandidates(
                query=asked.start + row,
                positive=positive,
                documents=documents,
                s_qd=s_qd[some],
                s_pd=space.documents.compare_documents(positive.document, documents),
                s_qp=similarity,
                members=self.members,
                ranks=union.ranks[:, some],
                scores=union.scores[:, some],
                positive_ranks=union.positive_ranks[:, place],
                positive_scores=union.positive_scores[:, place],
                shown=evidence.shown,
                refusals=evidence.refusals,
                clicked=evidence.clicked,
                clicked_near=evidence.clicked_near,
                coclick=evidence.coclick,
                judged=judged[:-1],
                rerank=rerank[:-1],
                rerank_positive=float(rerank[-1]),
                excluded=barred[row],
                batch=self._batch,
            )

    def _observe(self, asked: _Asked, union: _Union) -> Iterator[Seen]:
        """Yields the evidence for each pair, asked for all at once."""
        starts, sizes = union.borders[asked.rows], np.diff(union.borders)[asked.rows]
        ends = np.cumsum(sizes)
        places = np.repeat(starts - ends + sizes, sizes) + np.arange(sizes.sum())
        query = np.repeat(asked.rows.astype(np.int32), sizes)
        positive = np.repeat(asked.documents, sizes)
        found = self._task.feedback.observe(asked.texts, query, positive, union.documents[places])
        for begin, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
            yield Seen(
                found.shown[begin:end],
                found.refusals[begin:end],
                found.clicked[begin:end],
                found.clicked_near[begin:end],
                found.coclick[begin:end],
            )


def _join_lists(lists: Sequence[Listed], asked: _Asked, depth: int, telling: Bool) -> _Union:
    """Joins lists. Ranks count what is not excluded and has a word; each is cut to ``depth`` of these."""
    width = len(telling)
    places = np.arange(len(asked.queries), dtype=np.int64) * width
    sizes = np.array([len(some) for some in asked.excluded], np.int64)
    forbidden = np.concatenate([np.empty(0, np.int64), *asked.excluded]) + np.repeat(places, sizes)
    cut = [_cut(one, places, forbidden, depth, telling) for one in lists]
    keys = _sort_distinct(np.concatenate([np.empty(0, np.int64), *(key for key, _, _ in cut)]))
    ranks = np.zeros((len(lists), len(keys)), np.int32)
    scores = np.full((len(lists), len(keys)), np.nan, np.float32)
    own_ranks = np.zeros((len(lists), len(asked.rows)), np.int32)
    own_scores = np.full((len(lists), len(asked.rows)), np.nan, np.float32)
    for m, (one, (key, rank, score)) in enumerate(zip(lists, cut, strict=True)):
        at = np.searchsorted(keys, key)
        ranks[m, at], scores[m, at] = rank, score
        pair, column = np.nonzero(one.documents[asked.rows] == asked.documents[:, None])
        near = column < depth + sizes[asked.rows[pair]]
        pair, column = pair[near], column[near]
        own_ranks[m, pair], own_scores[m, pair] = column + 1, one.scores[asked.rows[pair], column]
    borders = np.searchsorted(keys, np.append(places, len(places) * width))
    return _Union(borders, (keys % width).astype(np.int32), ranks, scores, own_ranks, own_scores)


def _read_relevance(lists: Sequence[Listed]) -> list[dict[int, float]]:
    """Reads for each query the calibrated probabilities by document; empty if no member knows any."""
    for one in lists:
        if one.relevance is not None:
            rows = zip(one.documents.tolist(), one.relevance.tolist(), strict=True)
            return [dict(zip(documents, values, strict=True)) for documents, values in rows]
    return []


def _sort_distinct(keys: Int64) -> Int64:
    """Sorts keys from 0, each once. ``np.unique`` hashes first, and takes ten times as long."""
    ordered = np.sort(keys)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _cut(
    one: Listed, places: Int64, forbidden: Int64, depth: int, telling: Bool
) -> tuple[Int64, Int32, Float32]:
    """Cuts what a list holds for all queries to keys, ranks and scores, without the excluded and the
    wordless."""
    key = one.documents + places[:, None]
    kept: Bool = (one.documents != NO_DOCUMENT) & telling[one.documents] & ~np.isin(key, forbidden)
    rank = np.cumsum(kept, axis=1, dtype=np.int32)
    kept &= rank <= depth
    return key[kept], rank[kept], one.scores[kept]


def _find_places(values: Int32, wanted: Int32) -> Int64:
    """Finds where each wanted value stands in ``values``."""
    order = np.argsort(values)
    return order[np.searchsorted(values, wanted, sorter=order)]
