"""Divides queries into parts, so that what is fitted to some is held to others that share nothing with it."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from quarry.mining.spec import JudgedQuery
from quarry.training.marks import query_mark

FOLDS = 5


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


def folds_of(components: Sequence[int], seed: int, folds: int = FOLDS) -> list[int]:
    """The part of each query, 0 to ``folds`` - 1. Components stay whole, the largest are dealt out first.

    Some parts are empty where there are fewer components than parts.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for place, component in enumerate(components):
        members[component].append(place)

    def drawn(component: int) -> bytes:
        return hashlib.blake2b(f"{seed}\0{component}".encode()).digest()

    part, sizes = [0] * len(components), [0] * folds
    for component in sorted(members, key=lambda one: (-len(members[one]), drawn(one))):
        smallest = min(range(folds), key=lambda fold: sizes[fold])
        sizes[smallest] += len(members[component])
        for place in members[component]:
            part[place] = smallest
    return part
