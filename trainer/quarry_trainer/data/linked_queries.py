"""Queries that say the same: what is fitted to one of them is not held to another."""

from collections.abc import Sequence

from quarry.mining.spec import JudgedQuery
from quarry.training.hashes import mark_query


def number_components(queries: Sequence[JudgedQuery]) -> list[int]:
    """Numbers queries: the same where queries share a relevant document or a text, directly or by way
    of others.
    """
    above: dict[object, object] = {}

    def find_root(one: object) -> object:
        while above.setdefault(one, one) != one:
            above[one] = one = above[above[one]]
        return one

    for place, query in enumerate(queries):
        for other in (mark_query(query.text), *(d for d, grade in query.judgments.items() if grade > 0)):
            above[find_root(other)] = find_root(place)
    numbers: dict[object, int] = {}
    return [numbers.setdefault(find_root(place), len(numbers)) for place in range(len(queries))]
