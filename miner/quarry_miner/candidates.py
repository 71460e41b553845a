"""From the members' lists to what presets look at: candidates by (query, positive) pair, evidence joined."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from quarry_miner.evidence import Seen
from quarry_miner.examples import Bool, Float32, Int32, MiningQuery, PairCandidates
from quarry_miner.matrix import DocumentMatrix, Int64
from quarry_miner.members import NO_DOCUMENT, RERANKER, Listed
from quarry_miner.reranker import by_score, probability
from quarry_miner.task import MiningTask


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The pairs of some queries, in their order, and how many listed documents were copies of a positive."""

    pairs: list[PairCandidates]
    copies: int


@dataclass(frozen=True, slots=True, eq=False)
class _Union:
    """What the members list for some queries together; ``u`` documents in all, ordered by query and number.

    Attributes:
        borders: query ``i`` has ``borders[i]`` to ``borders[i + 1]``.
        documents: int32, shape ``(u,)``.
        ranks: int32, shape ``(m, u)``; so are ``scores``.
        positive_ranks: of each query, int32, shape ``(m, positives)``; so are ``positive_scores``.
    """

    borders: Int64
    documents: Int32
    ranks: Int32
    scores: Float32
    positive_ranks: list[Int32]
    positive_scores: list[Float32]


class Gatherer:
    """Makes pairs for a task. What it gives for a query does not depend on the queries beside it."""

    def __init__(self, task: MiningTask, judged: bool) -> None:
        """``judged``: candidates get the judge's probability."""
        self._task = task
        self._judge = task.judge if judged or task.judge_is_member else None
        self.members = (*(m.name for m in task.members), *([RERANKER] if task.judge_is_member else []))
        self._batch = np.unique([p.document for q in task.queries for p in q.positives]).astype(np.int32)

    def of(self, start: int, end: int) -> Gathered:
        """Pairs of the queries from place ``start`` to before ``end``."""
        queries = self._task.queries[start:end]
        texts = [query.text for query in queries]
        positives = [np.array([p.document for p in q.positives], np.int32) for q in queries]
        excluded = [self._task.corpus.with_copies(numbers) for numbers in positives]
        lists, copies = self._lists(texts, positives, excluded)
        union = _union(lists, positives, excluded, self._task.depth, len(self._task.corpus))
        logits = self._logits(texts, union, positives)
        if self._task.judge_is_member:
            judged = [by_score(*one) for one in logits]
            rows = [(d.tolist(), s.tolist()) for d, s in judged]
            lists = [*lists, Listed.of_rows(rows, max((len(d) for d, _ in judged), default=0))]
            union = _union(lists, positives, excluded, self._task.depth, len(self._task.corpus))
        pairs = list(self._pairs(start, queries, positives, excluded, union, logits))
        return Gathered(pairs, copies)

    def _lists(
        self, texts: Sequence[str], positives: Sequence[Int32], excluded: Sequence[Int32]
    ) -> tuple[list[Listed], int]:
        depth = self._task.depth + max((len(numbers) for numbers in excluded), default=0)
        lists = [member.search(texts, depth) for member in self._task.members]
        listed = 0
        for row, (every, own) in enumerate(zip(excluded, positives, strict=True)):
            if lists and len(every) > len(own):
                found = np.concatenate([one.documents[row] for one in lists])
                listed += int(np.isin(np.setdiff1d(every, own), found).sum())
        return lists, listed

    def _logits(
        self, texts: Sequence[str], union: _Union, positives: Sequence[Int32]
    ) -> list[tuple[Int32, Float32]]:
        """Of each query, documents (its positives last) and their logits; nothing without a judge."""
        if self._judge is None:
            return []
        asked = [
            np.concatenate([documents, own]).astype(np.int32)
            for documents, own in zip(np.split(union.documents, union.borders[1:-1]), positives, strict=True)
        ]
        return list(zip(asked, self._judge.logits(texts, asked), strict=True))

    def _pairs(
        self,
        start: int,
        queries: Sequence[MiningQuery],
        positives: Sequence[Int32],
        excluded: Sequence[Int32],
        union: _Union,
        logits: Sequence[tuple[Int32, Float32]],
    ) -> Iterator[PairCandidates]:
        space = self._task.space
        vectors = space.queries.embed([query.text for query in queries])
        seen = self._seen(queries, positives, union)
        measured = _similarities(space.documents, vectors, positives, union)
        for row, query in enumerate(queries):
            begin, end = union.borders[row], union.borders[row + 1]
            documents, own = union.documents[begin:end], positives[row]
            s_qp, s_qd, s_pd = next(measured)
            rerank = np.full(len(documents) + len(own), np.nan, np.float32)
            if logits:
                asked, scores = logits[row]
                rerank = probability(scores)[_places(asked, np.concatenate([documents, own]))]
            order = np.lexsort((documents, -s_qd))
            ranks, scores = union.ranks[:, begin:end][:, order], union.scores[:, begin:end][:, order]
            for place, positive in enumerate(query.positives):
                evidence = next(seen)
                yield PairCandidates(
                    query=start + row,
                    positive=positive,
                    documents=documents[order],
                    s_qd=s_qd[order],
                    s_pd=s_pd[place][order],
                    s_qp=float(s_qp[place]),
                    s_qp_least=float(s_qp.min()),
                    members=self.members,
                    ranks=ranks,
                    scores=scores,
                    positive_ranks=union.positive_ranks[row][:, place],
                    positive_scores=union.positive_scores[row][:, place],
                    shown=evidence.shown[order],
                    refusals=evidence.refusals[order],
                    clicked=evidence.clicked[order],
                    clicked_near=evidence.clicked_near[order],
                    coclick=evidence.coclick[order],
                    rerank=rerank[: len(documents)][order],
                    rerank_positive=float(rerank[len(documents) + place]),
                    excluded=excluded[row],
                    batch=self._batch,
                )

    def _seen(
        self, queries: Sequence[MiningQuery], positives: Sequence[Int32], union: _Union
    ) -> Iterator[Seen]:
        """Evidence for each pair, asked for all at once."""
        sizes = np.diff(union.borders)
        counts = np.array([len(own) for own in positives])
        query = np.repeat(np.arange(len(queries), dtype=np.int32), sizes * counts)
        split = np.split(union.documents, union.borders[1:-1])
        document = np.concatenate([np.tile(d, len(own)) for d, own in zip(split, positives, strict=True)])
        positive = np.concatenate([np.repeat(own, len(d)) for d, own in zip(split, positives, strict=True)])
        found = self._task.feedback.of([q.text for q in queries], query, positive, document)
        begin = 0
        for size in np.repeat(sizes, counts).tolist():
            end = begin + size
            yield Seen(
                found.shown[begin:end],
                found.refusals[begin:end],
                found.clicked[begin:end],
                found.clicked_near[begin:end],
                found.coclick[begin:end],
            )
            begin = end


def _similarities(
    matrix: DocumentMatrix, queries: Float32, positives: Sequence[Int32], union: _Union
) -> Iterator[tuple[Float32, Float32, Float32]]:
    """Of each query: s_qp, shape ``(p,)``; s_qd, ``(c,)``; s_pd, ``(p, c)``."""
    if matrix.is_flat:
        yield from _flat_similarities(matrix, queries, positives, union)
        return
    for row, own in enumerate(positives):
        documents = union.documents[union.borders[row] : union.borders[row + 1]]
        found = matrix.similarities(queries[row : row + 1], np.concatenate([own, documents]))[0]
        s_pd = np.stack([matrix.between(int(positive), documents) for positive in own])
        yield found[: len(own)], found[len(own) :], s_pd


def _flat_similarities(
    matrix: DocumentMatrix, queries: Float32, positives: Sequence[Int32], union: _Union
) -> Iterator[tuple[Float32, Float32, Float32]]:
    """The same with one vector a document: the pairs of all queries at once, positive by positive."""
    counts = np.array([len(own) for own in positives])
    owner = np.repeat(np.arange(len(positives)), np.diff(union.borders))
    s_qd = matrix.paired(queries, owner, union.documents)
    s_pd = np.zeros((counts.max(initial=0), len(owner)), np.float32)
    s_qp = np.zeros((len(positives), len(s_pd)), np.float32)
    for place in range(len(s_pd)):
        having = np.flatnonzero(counts > place)
        numbers = np.zeros(len(positives), np.int64)
        numbers[having] = [positives[row][place] for row in having.tolist()]
        s_qp[having, place] = matrix.paired(queries, having, numbers[having].astype(np.int32))
        some = np.flatnonzero(counts[owner] > place)
        s_pd[place, some] = matrix.paired(matrix.vectors, numbers[owner[some]], union.documents[some])
    for row, (begin, end) in enumerate(itertools.pairwise(union.borders.tolist())):
        yield s_qp[row, : counts[row]], s_qd[begin:end], s_pd[: counts[row], begin:end]


def _union(
    lists: Sequence[Listed], positives: Sequence[Int32], excluded: Sequence[Int32], depth: int, width: int
) -> _Union:
    """Joins lists. Ranks count what is not excluded; each list is cut to ``depth`` such documents."""
    rows = len(positives)
    places = np.arange(rows, dtype=np.int64) * width
    sizes = np.array([len(some) for some in excluded])
    forbidden = np.concatenate([np.empty(0, np.int64), *excluded]) + np.repeat(places, sizes)
    cut = [_cut(one, places, forbidden, depth) for one in lists]
    keys = np.unique(np.concatenate([np.empty(0, np.int64), *(key for key, _, _ in cut)]))
    ranks = np.zeros((len(lists), len(keys)), np.int32)
    scores = np.full((len(lists), len(keys)), np.nan, np.float32)
    for m, (key, rank, score) in enumerate(cut):
        at = np.searchsorted(keys, key)
        ranks[m, at], scores[m, at] = rank, score
    own_ranks, own_scores = [], []
    for row in range(rows):
        whole = [(one.documents[row, : depth + sizes[row]], one.scores[row]) for one in lists]
        found = [_listed_at(documents, s, positives[row]) for documents, s in whole]
        shape = (len(lists), len(positives[row]))
        own_ranks.append(np.array([rank for rank, _ in found], np.int32).reshape(shape))
        own_scores.append(np.array([score for _, score in found], np.float32).reshape(shape))
    borders = np.searchsorted(keys, np.append(places, rows * width))
    return _Union(borders, (keys % width).astype(np.int32), ranks, scores, own_ranks, own_scores)


def _cut(one: Listed, places: Int64, forbidden: Int64, depth: int) -> tuple[Int64, Int32, Float32]:
    """Keys, ranks and scores of what a list holds for all queries, the excluded left out."""
    key = one.documents + places[:, None]
    kept: Bool = (one.documents != NO_DOCUMENT) & ~np.isin(key, forbidden)
    rank = np.cumsum(kept, axis=1, dtype=np.int32)
    kept &= rank <= depth
    return key[kept], rank[kept], one.scores[kept]


def _listed_at(documents: Int32, scores: Float32, wanted: Int32) -> tuple[Int32, Float32]:
    """Ranks and scores of ``wanted`` in one row; 0 and NaN for what is not in it."""
    ranks, found = np.zeros(len(wanted), np.int32), np.full(len(wanted), np.nan, np.float32)
    at, which = np.nonzero(documents[:, None] == wanted[None])
    ranks[which], found[which] = at + 1, scores[at]
    return ranks, found


def _places(values: Int32, wanted: Int32) -> Int64:
    """Where each wanted value stands in ``values``."""
    order = np.argsort(values)
    return order[np.searchsorted(values, wanted, sorter=order)]
