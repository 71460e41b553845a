"""Judged queries that choices are made by while a model is made: when to stop, and how to blend."""

from collections.abc import Mapping, Sequence

import numpy as np
from ir_measures import nDCG

from quarry.mining.spec import JudgedQuery
from quarry.models.blend import Blend
from quarry_trainer.data.entities import NO_ENTITIES, Entities
from quarry_trainer.data.known_unseen import average_over_parts, split_by_known
from quarry_trainer.data.live import RankedQuery
from quarry_trainer.data.query_split import QuerySplit
from quarry_trainer.evaluation.scoring import PairModel, order_by_blend, score_ranked
from quarry_trainer.measures import NDCG, list_clusters, list_judged_queries, measure_per_query

MEASURED_QUERIES, MEASURED_DEPTH = 48, 30
"""Development queries, and candidates of each, that are scored again and again while training goes on."""


class Development:
    """Queries that choices are made by. Without any, training goes on to its end, and the blend is careful.

    Attributes:
        whole: with all candidates; ``ranked`` has some of them, which are cheaper to score often.
        known: whether training sees a relevant document, by query.
        entities: what relevant documents speak of.
    """

    def __init__(
        self,
        whole: Sequence[RankedQuery],
        queries: Sequence[JudgedQuery],
        known: Mapping[str, bool],
        entities: Entities = NO_ENTITIES,
    ) -> None:
        relevant = {q.id: {d for d, grade in q.judgments.items() if grade > 0} for q in queries}
        # A query whose relevant documents are not among its candidates tells two orders apart in nothing.
        whole = [query for query in whole if relevant[query.query_id] & set(query.documents)]
        self.whole, self.known, self.entities = whole, known, entities
        places = np.linspace(0, len(whole) - 1, min(len(whole), MEASURED_QUERIES)).round().astype(int)
        some = [whole[place] for place in places]
        self.ranked = [query.take(range(min(MEASURED_DEPTH, len(query)))) for query in some]
        self.qrels = {query.id: query.judgments for query in queries}

    @classmethod
    def from_split(
        cls, split: QuerySplit, ranked: Mapping[str, RankedQuery], entities: Entities = NO_ENTITIES
    ) -> "Development":
        """Takes the queries that ``split`` leaves for choices, with their candidates by id."""
        whole = [ranked[query.id] for query in split.development]
        return cls(whole, split.development, split.known, entities)

    def measure_ndcg(self, model: PairModel, blend: Blend) -> float:
        """Measures the mean nDCG@10 of the order in training; known and unseen queries, if ``split_by_known``
        tells them apart, count alike."""
        scores = score_ranked(model, self.ranked)
        orders = {
            query.query_id: order_by_blend(query, some, blend)
            for query, some in zip(self.ranked, scores, strict=True)
        }
        qrels = {id: self.qrels[id] for id in orders}
        values = measure_per_query(orders, qrels, [nDCG @ 10])[NDCG]
        judged = list_judged_queries(qrels)
        clusters = list_clusters(judged, qrels, self.entities)
        return average_over_parts(values, split_by_known(judged, clusters, self.known))
