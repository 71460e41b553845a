"""The range of every number that a search may state, each declared once.

Queries, cascades, ranking configurations and limits take their ranges from here. The protos say the same in
words; a test holds the two together.
"""

from dataclasses import dataclass

from quarry.errors import OutOfRangeError


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Numbers from ``least`` to ``most``.

    Attributes:
        open_below: ``least`` itself is not one of them.
    """

    least: float
    most: float
    open_below: bool = False

    def check(self, value: float, field: str) -> None:
        """Raises OutOfRangeError, about ``field``, unless ``value`` is one of them; NaN never is."""
        inside = self.least < value if self.open_below else self.least <= value
        if not (inside and value <= self.most):
            raise OutOfRangeError(field, f"{value} is not {self}")

    def __str__(self) -> str:
        if self.open_below:
            return f"over {self.least:g} and at most {self.most:g}"
        return f"{self.least:g} to {self.most:g}"


ARM_DEPTH = NumberRange(1, 1_000)
"""Candidates to take of an arm."""
ARM_WEIGHT = NumberRange(0, 1_000)
"""What an arm counts in the fused score."""
BOOST_SCALE = NumberRange(0, 100)
"""What the boosts of the schema's fields are multiplied by."""
RRF_K = NumberRange(1, 10_000)
RERANK_DEPTH = NumberRange(1, 1_000)
"""Candidates that one model reads."""
MIN_RELEVANCE = NumberRange(0, 1, open_below=True)
"""Probability that a hit is relevant, at least."""
SWAP_PROBABILITY = NumberRange(0, 0.5)
"""Of each pair of neighbours, when a search explores."""
EXPLORED_DEPTH = NumberRange(2, 100)
"""Ranks that a search explores."""
BOOST_WEIGHT = NumberRange(-1, 10)
"""How far a boost moves the strongest document; 0 is refused, too."""
GROUP_MEMBERS = NumberRange(0, 10)
"""Documents that come with the one that stands for their group."""
RELEVANCE_WEIGHT = NumberRange(0, 1, open_below=True)
"""Of relevance beside dissimilarity."""
DIVERSE_DEPTH = NumberRange(2, 100)
"""Hits that change places so that they do not repeat each other."""
FRAGMENT_LENGTH = NumberRange(20, 1_000)
"""Characters of a text that a snippet shows at once."""
FRAGMENTS = NumberRange(1, 10)
"""Parts of a text that a snippet shows."""
