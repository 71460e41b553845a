"""Moves documents of a ranked list up or down by their fields."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from quarry.filters import matches
from quarry.ranking.ranking import BoostEffect, RankedDocument
from quarry.ranking.shaping import Boost, Freshness, Popularity
from quarry.schema import as_list
from quarry.types import Docno, Fields

Strengths = tuple[float, ...]


def measure_strengths(boosts: Sequence[Boost], fields: Fields, now_us: int) -> Strengths:
    """Measures how strong a document is by each boost, 0 to 1."""
    return tuple(_measure_strength(boost, fields, now_us) for boost in boosts)


def apply_boosts(
    documents: Sequence[RankedDocument],
    boosts: Sequence[Boost],
    strengths: Mapping[Docno, Strengths],
    scale: Callable[[RankedDocument], float],
) -> list[RankedDocument]:
    """Gives each document the score that the boosts make of its own, and orders by it, ties as they were.

    A score is the number of a stage and a part from 0 to 1. Only the part moves: it is divided by the most
    that the boosts can make of 1, so it stays in its bounds, no two are cut to the same, and a document's
    score does not depend on what else was found.

    Args:
        strengths: of each document that still exists; others are weak.
        scale: tells the score that a document would have without boosts.
    """
    highest = math.prod(1 + max(0.0, boost.weight) for boost in boosts if not boost.adds)
    highest += math.fsum(max(0.0, boost.weight) for boost in boosts if boost.adds)
    lowest = math.fsum(min(0.0, boost.weight) for boost in boosts if boost.adds)
    weak = (0.0,) * len(boosts)

    def move_document(document: RankedDocument) -> RankedDocument:
        stage = max(0, document.scored_by)
        effects = [
            BoostEffect(place, strength, boost.weight * strength + (0.0 if boost.adds else 1.0))
            for place, (boost, strength) in enumerate(
                zip(boosts, strengths.get(document.docno, weak), strict=True)
            )
            if strength
        ]
        factor = math.prod(e.effect for e in effects if not boosts[e.boost].adds)
        added = math.fsum(e.effect for e in effects if boosts[e.boost].adds)
        part = ((scale(document) - stage) * factor + added - lowest) / (highest - lowest)
        score = stage + min(1.0, max(0.0, part))
        return replace(document, shape=replace(document.shape, score=score, boosts=tuple(effects)))

    boosted = map(move_document, documents)
    return sorted(boosted, key=lambda d: (-max(0, d.scored_by), -(d.shape.score or 0.0)))


def _measure_strength(boost: Boost, fields: Fields, now_us: int) -> float:
    if not isinstance(boost.by, Freshness | Popularity):
        return 1.0 if matches(boost.by, fields) else 0.0
    values = as_list(fields.get(boost.by.field))
    if not values:
        return 0.0
    if isinstance(boost.by, Popularity):
        number = float(max(values))
        return 1 / (1 + boost.by.half / number) if number > 0 else 0.0
    age_us = max(0, now_us - max(values))
    return float(0.5 ** (age_us / boost.by.half_life_us))
