"""Qdrant Edge's conditions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import qdrant_edge as edge

if TYPE_CHECKING:  # the engine's type aliases are in its stubs only
    Condition = edge.ConditionType
else:
    Condition = object


class EdgeConditions:
    """Implements ``quarry.retrieval.qdrant_filters.Conditions``."""

    def require_all(self, conditions: Sequence[Condition]) -> Condition:
        return edge.Filter(must=list(conditions))

    def require_any(self, conditions: Sequence[Condition]) -> Condition:
        # to the engine an empty list of alternatives is no condition at all
        return edge.Filter(should=list(conditions)) if conditions else edge.HasIdCondition(set())

    def require_none(self, conditions: Sequence[Condition]) -> Condition:
        return edge.Filter(must_not=list(conditions))

    def has_value(self, key: str, values: list[str] | list[int]) -> Condition:
        return edge.FieldCondition(key, match=edge.MatchAny(values))

    def has_prefix(self, key: str, prefix: str) -> Condition:
        return edge.FieldCondition(key, match=edge.MatchPrefix(prefix))

    def has_number(self, key: str, **bounds: float) -> Condition:
        return edge.FieldCondition(key, range=edge.RangeFloat(**bounds))

    def has_time(self, key: str, **bounds: str) -> Condition:
        return edge.FieldCondition(key, range=edge.RangeDateTime(**bounds))

    def has_field(self, key: str) -> Condition:
        return edge.Filter(must_not=[edge.IsEmptyCondition(key)])

    def has_id(self, points: set[int]) -> Condition:
        return edge.HasIdCondition(set(points))
