"""Every arm that a collection may have. To add one, write its module and register its definition here."""

from quarry.retrieval.bm25_arm import BM25
from quarry.retrieval.definition import ArmDefinition
from quarry.retrieval.dense_arm import DENSE

ARMS: dict[str, ArmDefinition] = {}
"""By name, in the order in which answers and reports list them."""
RESERVED = frozenset(
    {"total", "encode", "fuse", "rerank", "hydrate", "fused", "reranked", "lsa", "reranker", "ensemble"}
)
"""Names that mean something else where an arm's may stand: stages, runs of an evaluation, mining members."""


def register_arm(definition: ArmDefinition) -> None:
    """Adds an arm, which collections that are opened from now on have.

    Raises:
        ValueError: the name is taken, or another arm browses already.
    """
    name = definition.name
    if name in ARMS or name in RESERVED:
        raise ValueError(f"the name {name!r} is taken")
    if definition.browses and any(arm.browses for arm in ARMS.values()):
        raise ValueError(f"another arm than {name} browses already")
    ARMS[name] = definition


def list_arms() -> tuple[str, ...]:
    """Lists the names of all arms, in their order."""
    return tuple(ARMS)


def compute_default_share(name: str) -> float:
    """Returns an arm's part in a weighted sum of all arms by their own weights, over 0 to 1."""
    return ARMS[name].weight / sum(arm.weight for arm in ARMS.values())


def find_browsing_arm() -> ArmDefinition:
    """Returns the arm that lists and counts what passes a filter."""
    return next(arm for arm in ARMS.values() if arm.browses)


for _arm in (BM25, DENSE):
    register_arm(_arm)
