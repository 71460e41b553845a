"""Cascades of re-rankers: a small model reads many candidates, a larger one the best of those."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quarry.errors import DuplicateError, InvalidArgumentError, OutOfRangeError, RequiredError
from quarry.ranking.ranges import RERANK_DEPTH

MAX_STAGES = 3
DEFAULT_RERANK_DEPTH = 50
OWN = ""
"""In place of a model's name: the collection's re-ranker, whichever it is by then."""


@dataclass(frozen=True, slots=True)
class RerankStage:
    """One model and how much it reads.

    Attributes:
        model: the cross-encoder's name, or ``OWN``.
        depth: best candidates in the order so far that it reads, 1 to 1,000.
    """

    model: str
    depth: int


Cascade = tuple[RerankStage, ...]
"""Stages in the order in which they read, widest first; empty for none."""


def check_cascade(stages: Sequence[RerankStage]) -> None:
    """Raises InvalidArgumentError, with the path from ``cascade`` on, if a stage is wrong or out of order."""
    if len(stages) > MAX_STAGES:
        raise OutOfRangeError("cascade", f"has {len(stages)} stages, at most {MAX_STAGES} are allowed")
    for number, stage in enumerate(stages):
        RERANK_DEPTH.check(stage.depth, f"cascade[{number}].depth")
        if number and stage.depth > stages[number - 1].depth:
            problem = f"{stage.depth} is over the {stages[number - 1].depth} of the stage before it"
            raise OutOfRangeError(f"cascade[{number}].depth", problem)
        if any(stage.model == other.model for other in stages[:number]):
            name = repr(stage.model[:80]) if stage.model else "the collection's re-ranker"
            raise DuplicateError(f"cascade[{number}].model", f"{name} is there twice")


def check_usual(stages: Sequence[RerankStage]) -> None:
    """Checks a collection's own cascade as ``check_cascade`` does; its re-ranker must have a place in it."""
    check_cascade(stages)
    if stages and all(stage.model != OWN for stage in stages):
        problem = "has no stage without a model, where the collection's re-ranker would stand"
        raise InvalidArgumentError("cascade", problem)


def resolve_asked_cascade(stages: Cascade, own: str) -> Cascade:
    """Resolves the cascade that a search states, with ``own`` in the place of the collection's re-ranker.

    As in ``choose_usual_cascade``, a model that stands there already reads once: no promotion makes a search
    wrong that was right before.

    Raises InvalidArgumentError, also where there is no ``own`` to put there.
    """
    check_cascade(stages)
    for number, stage in enumerate(stages):
        if stage.model == OWN and not own:
            problem = "is empty, and the collection has no re-ranker"
            raise RequiredError(f"cascade[{number}].model", problem)
    return _fill(stages, own)


def choose_usual_cascade(stages: Cascade, own: str, depth: int | None = None) -> Cascade:
    """Chooses what answers a search that states no cascade.

    A promotion may put a model into the cascade that has a stage there already. It reads once then, at its
    wider stage, for what it would read again it has scored.

    Args:
        stages: the collection's; empty for ``own`` alone.
        depth: fused candidates to re-rank instead of the usual number.

    Raises:
        InvalidArgumentError: ``depth`` is out of range.
    """
    filled = _fill(stages or (RerankStage(OWN, DEFAULT_RERANK_DEPTH),), own)
    if depth is None:
        return filled
    RERANK_DEPTH.check(depth, "depth")
    first, *later = filled
    return replace(first, depth=depth), *(replace(stage, depth=min(stage.depth, depth)) for stage in later)


def _fill(stages: Cascade, own: str) -> Cascade:
    """Puts ``own`` in its place, and keeps, of stages that have one model, the first, which is the wider
    one."""
    filled: list[RerankStage] = []
    for stage in stages:
        model = own if stage.model == OWN else stage.model
        if all(model != other.model for other in filled):
            filled.append(replace(stage, model=model))
    return tuple(filled)
