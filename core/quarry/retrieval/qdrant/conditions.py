"""Filters as conditions of the Qdrant client."""

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

Condition = Any


class ClientConditions:
    """Implements ``quarry.retrieval.qdrant_filters.Conditions``."""

    def require_all(self, conditions: Sequence[Condition]) -> Condition:
        return models.Filter(must=list(conditions))

    def require_any(self, conditions: Sequence[Condition]) -> Condition:
        # to the engine an empty list of alternatives is no condition at all
        return models.Filter(should=list(conditions)) if conditions else models.HasIdCondition(has_id=[])

    def require_none(self, conditions: Sequence[Condition]) -> Condition:
        return models.Filter(must_not=list(conditions))

    def has_value(self, key: str, values: list[str] | list[int]) -> Condition:
        return models.FieldCondition(key=key, match=models.MatchAny(any=values))

    def has_prefix(self, key: str, prefix: str) -> Condition:
        return models.FieldCondition(key=key, match=models.MatchPrefix(prefix=prefix))

    def has_number(self, key: str, **bounds: float) -> Condition:
        return models.FieldCondition(key=key, range=models.Range(**bounds))

    def has_time(self, key: str, **bounds: str) -> Condition:
        return models.FieldCondition(key=key, range=models.DatetimeRange(**bounds))

    def has_field(self, key: str) -> Condition:
        return models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=key))])
