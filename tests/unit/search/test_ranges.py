"""A range that a search keeps is declared once, and the protos say the same."""

import math
import re
from pathlib import Path

import pytest

from quarry.errors import InvalidArgumentError
from quarry.ranking import ranges
from quarry.ranking.ranges import NumberRange

PROTO = Path(__file__).parents[3] / "protos" / "quarry" / "v1" / "search_service.proto"
FIELDS = {
    ("Arm", "depth"): ranges.ARM_DEPTH,
    ("Arm", "weight"): ranges.ARM_WEIGHT,
    ("Arm", "boost_scale"): ranges.BOOST_SCALE,
    ("ReciprocalRankFusion", "k"): ranges.RRF_K,
    ("Rerank", "depth"): ranges.RERANK_DEPTH,
    ("SearchRequest", "min_relevance"): ranges.MIN_RELEVANCE,
    ("Exploration", "swap_probability"): ranges.SWAP_PROBABILITY,
    ("Exploration", "depth"): ranges.EXPLORED_DEPTH,
    ("Boost", "weight"): ranges.BOOST_WEIGHT,
    ("Collapse", "members"): ranges.GROUP_MEMBERS,
    ("Diversity", "relevance_weight"): ranges.RELEVANCE_WEIGHT,
    ("Diversity", "depth"): ranges.DIVERSE_DEPTH,
    ("Snippets", "length"): ranges.FRAGMENT_LENGTH,
    ("Snippets", "fragments"): ranges.FRAGMENTS,
}


def comment_of(message: str, field: str) -> str:
    """What the protos say of a field."""
    body = PROTO.read_text().split(f"\nmessage {message} {{\n")[1].split("\n}\n")[0]
    comments: list[str] = []
    for line in map(str.strip, body.splitlines()):
        if line.startswith("//"):
            comments.append(line.removeprefix("//").strip())
        elif re.search(rf"\b{field} = \d+", line):
            return " ".join(comments)
        else:
            comments.clear()
    raise AssertionError(f"there is no field {message}.{field}")


def words_of(one: NumberRange) -> str:
    return f"{'over ' if one.open_below else ''}{one.least:g} to {one.most:,g}"


@pytest.mark.parametrize(("message", "field"), FIELDS)
def test_the_protos_say_the_range_that_is_checked(message: str, field: str) -> None:
    said = rf"(?<![\w,]){re.escape(words_of(FIELDS[message, field]))}(?![\w,]|\.\d)"
    assert re.search(said, comment_of(message, field).replace("0 (none) to", "0 to"))


def test_every_range_belongs_to_a_field() -> None:
    declared = [one for one in vars(ranges).values() if isinstance(one, NumberRange)]
    assert len(declared) == len(FIELDS)
    assert all(any(one is known for known in FIELDS.values()) for one in declared)


@pytest.mark.parametrize("one", [*FIELDS.values()], ids=lambda one: str(one))
def test_borders_belong_to_a_range_and_what_lies_beyond_does_not(one: NumberRange) -> None:
    one.check(one.most, "field")
    outside = [one.most + 1e-9, one.least - 1e-9, math.nan, math.inf, -math.inf]
    if one.open_below:
        outside.append(one.least)
        one.check(1e-300, "field")
    else:
        one.check(one.least, "field")
    for value in outside:
        with pytest.raises(InvalidArgumentError, match=r"^field: .* is not ") as refused:
            one.check(value, "field")
        assert refused.value.field == "field"
