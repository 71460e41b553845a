"""The policy of promotion: a person makes a better re-ranker serve, or the server does by itself."""

from collections.abc import Collection
from enum import StrEnum


class PromotionPolicy(StrEnum):
    """The use of a re-ranker that a training has proven better."""

    MANUAL = "manual"
    """A person promotes it."""
    WHEN_IMPROVED = "when_improved"
    """It serves at once if it is IMPROVED without a caution."""
    DESPITE_CAUTIONS = "despite_cautions"
    """It serves at once if it is IMPROVED, whatever its cautions."""

    def allows(self, cautions: Collection[str]) -> bool:
        """Tells whether what is IMPROVED with these cautions serves at once."""
        if self is PromotionPolicy.WHEN_IMPROVED:
            return not cautions
        return self is PromotionPolicy.DESPITE_CAUTIONS
