"""Candidates of held-out judged queries with their blended scores: what a calibration is fitted on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.mining.spec import JudgedQuery
from quarry.models.blend import Blend
from quarry_trainer.data.dataset import Examples
from quarry_trainer.data.entities import NO_ENTITIES, Entities, judge_by_entity
from quarry_trainer.data.linked_queries import number_components
from quarry_trainer.data.live import Float64, RankedQuery

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSample:
    """The scores of ``n`` candidates of held-out queries, a query after the other, best first.

    Attributes:
        scores: blended, float64, shape ``(n,)``.
        relevant: bool, shape ``(n,)``.
        ranks: int64, shape ``(n,)``, from 1, by the blended score.
        questions: int64, shape ``(n,)``: one number for queries that share a relevant document, what one
            speaks of, or a text, and for those that are linked by others.
        unseen: bool, shape ``(n,)``: training did not see the query's documents.
        queries: how many they are.
    """

    scores: Float64
    relevant: Bool
    ranks: Int64
    questions: Int64
    unseen: Bool
    queries: int

    @classmethod
    def from_ranked(
        cls,
        ranked: Sequence[RankedQuery],
        scores: Sequence[Float64],
        blend: Blend,
        queries: Sequence[JudgedQuery],
        known: Mapping[str, bool],
        doubtful: Mapping[str, Collection[str]] | None = None,
        entities: Entities = NO_ENTITIES,
    ) -> "CandidateSample":
        """Makes the sample of these queries, as a server with this blend orders their candidates.

        A candidate without a judgment counts as not relevant, as in every measure.

        Args:
            ranked: candidates of each of ``queries``, with the model's ``scores``.
            known: whether training saw a relevant document of a query.
            doubtful: documents of a query that are left out, since no person has judged them.
            entities: what relevant documents speak of.
        """
        blended: list[Float64] = []
        relevant: list[bool] = []
        for one, own, query in zip(ranked, scores, queries, strict=True):
            both = blend.rerank * own + blend.fused * one.fused
            unsure = (doubtful or {}).get(query.id, ())
            order = [n for n in np.argsort(-both, kind="stable").tolist() if one.documents[n] not in unsure]
            blended.append(both[order])
            relevant += [query.judgments.get(one.documents[n], 0) > 0 for n in order]
        sizes = [len(some) for some in blended]
        questions = number_components(judge_by_entity(queries, entities))
        unseen = [not known.get(query.id, True) for query in queries]
        return cls(
            np.concatenate([np.empty(0), *blended]),
            np.array(relevant, np.bool_),
            np.concatenate([np.empty(0, np.int64), *(np.arange(1, size + 1) for size in sizes)]),
            np.repeat(np.array(questions, np.int64), sizes),
            np.repeat(np.array(unseen, np.bool_), sizes),
            len(queries),
        )

    def take(self, places: Int64) -> "CandidateSample":
        """Takes some of the candidates."""
        return CandidateSample(
            self.scores[places],
            self.relevant[places],
            self.ranks[places],
            self.questions[places],
            self.unseen[places],
            self.queries,
        )

    @property
    def asked(self) -> int:
        """The number of different questions."""
        return len(np.unique(self.questions))


def find_relabelled(examples: Examples, queries: Iterable[JudgedQuery]) -> dict[str, set[str]]:
    """Finds, by query, the documents that only a model has called relevant: they are no judgments of
    people."""
    judged: dict[str, set[str]] = {}
    found: dict[str, set[str]] = {}
    wanted = {query.id for query in queries}
    for group in examples.groups:
        if group.query_id in wanted:
            judged.setdefault(group.query_id, set()).add(group.positive)
            by_model = (d for d, yes in zip(group.documents, group.relevant, strict=True) if yes)
            found.setdefault(group.query_id, set()).update(by_model)
    return {id: documents - judged[id] for id, documents in found.items()}
