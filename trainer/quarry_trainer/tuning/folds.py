"""Divides queries into parts, so that what is fitted to some is held to others that share nothing with it."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

FOLDS = 5


def split_folds(components: Sequence[int], seed: int, folds: int = FOLDS) -> list[int]:
    """Splits queries into parts, 0 to ``folds`` - 1. Components stay whole, the largest are dealt out first.

    Some parts are empty where there are fewer components than parts.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for place, component in enumerate(components):
        members[component].append(place)

    def hash_component(component: int) -> bytes:
        return hashlib.blake2b(f"{seed}\0{component}".encode()).digest()

    part, sizes = [0] * len(components), [0] * folds
    for component in sorted(members, key=lambda one: (-len(members[one]), hash_component(one))):
        smallest = min(range(folds), key=lambda fold: sizes[fold])
        sizes[smallest] += len(members[component])
        for place in members[component]:
            part[place] = smallest
    return part
