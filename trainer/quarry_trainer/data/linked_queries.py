"""Queries that say the same: what is fitted to one of them is not held to another."""

from collections.abc import Sequence

from quarry.mining.spec import JudgedQuery
from quarry.training.marks import query_mark


def components_of(queries: Sequence[JudgedQuery]) -> list[int]:
    """A number for each query: the same where queries share a relevant document or a text, directly or by way
    of others.
    """
    above: dict[object, object] = {}

    def root(one: object) -> object:
        while above.setdefault(one, one) != one:
            above[one] = one = above[above[one]]
        return one

    for place, query in enumerate(queries):
        for other in (query_mark(query.text), *(d for d, grade in query.judgments.items() if grade > 0)):
            above[root(other)] = root(place)
    numbers: dict[object, int] = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(queries))]
