"""The wishes of a search for its list beside the query: what is on top, what is hidden, and what moves."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from quarry.errors import ConflictingFieldsError, DuplicateError, InvalidArgumentError, OutOfRangeError
from quarry.filters import Filter
from quarry.ranking.ranges import (
    BOOST_WEIGHT,
    DIVERSE_DEPTH,
    GROUP_MEMBERS,
    RELEVANCE_WEIGHT,
)
from quarry.schema import check_id

MOST_PINNED, MOST_EXCLUDED, MOST_BOOSTS = 100, 1_000, 32
SHORTEST_HALF_LIFE_US = 1_000_000
LONGEST_HALF_LIFE_US = 315_576_000_000 * 1_000_000
"""10,000 years, which is the longest time that a google.protobuf.Duration can state."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Makes a document the stronger the younger it is.

    Attributes:
        field: of timestamps.
        half_life_us: age, in microseconds, at which half of the strength is left; a second to 10,000
            years.
    """

    field: str
    half_life_us: int

    def __post_init__(self) -> None:
        if self.half_life_us < SHORTEST_HALF_LIFE_US:
            raise OutOfRangeError("half_life", "is less than a second")
        if self.half_life_us > LONGEST_HALF_LIFE_US:
            raise OutOfRangeError("half_life", "is more than 10,000 years (315,576,000,000 seconds)")


@dataclass(frozen=True, slots=True)
class Popularity:
    """Makes a document the stronger the greater a number of it is: ``v / (v + half)`` for ``v`` over 0.

    Attributes:
        field: of integers or floats.
        half: number that has the strength 0.5, over 0 and finite.
    """

    field: str
    half: float

    def __post_init__(self) -> None:
        if not 0 < self.half < math.inf:
            raise OutOfRangeError("half", f"is {self.half:g}, and not over 0 and finite")


@dataclass(frozen=True, slots=True)
class Boost:
    """Moves documents up or down by their fields.

    Attributes:
        by: what makes a document strong; one that passes a filter has the strength 1, others 0.
        weight: -1 to 10, and not 0.
        adds: it adds ``weight * strength`` to a score, and does not multiply it by ``1 + weight * strength``.

    Raises:
        InvalidArgumentError: out of range.
    """

    by: Filter | Freshness | Popularity
    weight: float
    adds: bool = False

    def __post_init__(self) -> None:
        BOOST_WEIGHT.check(self.weight, "weight")
        if not self.weight:
            raise OutOfRangeError("weight", "is 0, which moves nothing")


@dataclass(frozen=True, slots=True)
class Collapse:
    """Shows one document of each group.

    Attributes:
        field: whose value makes the group.
        members: others that come with it, 0 to 10.
    """

    field: str
    members: int = 0

    def __post_init__(self) -> None:
        GROUP_MEMBERS.check(self.members, "members")


@dataclass(frozen=True, slots=True)
class Diversity:
    """Puts what repeats the hits above it further down, by maximal marginal relevance.

    Attributes:
        relevance_weight: of relevance, over 0 to 1; dissimilarity has the rest.
        depth: hits that change places, 2 to 100.
    """

    relevance_weight: float = 0.5
    depth: int = 50

    def __post_init__(self) -> None:
        RELEVANCE_WEIGHT.check(self.relevance_weight, "relevance_weight")
        DIVERSE_DEPTH.check(self.depth, "depth")


@dataclass(frozen=True, slots=True)
class Shaping:
    """The wishes of one search for its list.

    Attributes:
        pinned: ids of what stands on top, each once, in order.
        excluded: ids of what is hidden.
        like: id of the document in whose place there is no query text; empty for none.

    Raises:
        InvalidArgumentError: too many ids or boosts, one that is none, or one that contradicts another.
    """

    pinned: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    collapse: Collapse | None = None
    diversity: Diversity | None = None
    boosts: tuple[Boost, ...] = ()
    like: str = ""

    def __post_init__(self) -> None:
        _check_number(len(self.pinned), MOST_PINNED, "pinned_ids")
        _check_number(len(self.excluded), MOST_EXCLUDED, "exclude_ids")
        _check_number(len(self.boosts), MOST_BOOSTS, "boosts")
        for number, id in enumerate(self.pinned):
            path = f"pinned_ids[{number}]"
            _check_id(id, path)
            if id in self.pinned[:number]:
                raise DuplicateError(path, f"{id[:80]!r} is there twice")
            if id in self.excluded:
                raise ConflictingFieldsError(path, f"{id[:80]!r} is in exclude_ids, too")
            if id == self.like:
                raise ConflictingFieldsError(
                    path, f"{id[:80]!r} is the document of more_like, which is left out"
                )
        for id in self.excluded:
            _check_id(id, "exclude_ids")
        if self.like:
            _check_id(self.like, "more_like")

    @property
    def reorders(self) -> bool:
        """Whether it changes the order of what is ranked, pinned documents left out."""
        return bool(self.collapse or self.diversity or self.boosts)

    def describe(self) -> dict[str, Any]:
        """Describes what of it makes an order; which documents it names says nothing of a ranking."""
        described: dict[str, Any] = {}
        for name, part in (("collapse", self.collapse), ("diversity", self.diversity)):
            if part is not None:
                described[name] = asdict(part)
        if self.like:
            described["like"] = True
        if self.boosts:
            described["boosts"] = [{"kind": type(one.by).__name__, **asdict(one)} for one in self.boosts]
        return described


def _check_number(number: int, most: int, field: str) -> None:
    if number > most:
        raise OutOfRangeError(field, f"has {number}, at most {most} are allowed")


def _check_id(id: str, path: str) -> None:
    try:
        check_id(id)
    except InvalidArgumentError as error:
        raise error.move_to(path) from None
