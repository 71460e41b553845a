"""The gate of a mining set: a typed verdict on training on it, and what to change."""

from collections.abc import Iterator
from dataclasses import dataclass

from quarry.mining.spec import Verdict


@dataclass(frozen=True, slots=True)
class MiningGatePolicy:
    """The limits that a set must keep to. Shares, 0 to 1, but for counts.

    Attributes:
        min_pairs: (query, positive) pairs. Of fewer, no share below is known within a quarter, and training
            learns them by heart.
        min_coverage: of the (query, positive) pairs, those that got a negative. With fewer, training sees
            mostly the queries that the retrievers get wrong.
        max_false_negatives: of the negatives, by the estimate. Audits of naive top-k found 39 to 47 % and
            positive-aware rules about half of that, as reported (arXiv 2407.15831).
        near_positive: cosine to the positive from which a negative counts as nearly the positive.
        max_near_positive: of the negatives, those that are. With 51 % at 0.9 or more a re-ranker's MRR was
            halved, as reported (arXiv 2507.14619).
        max_random: of the negatives, those drawn at random.
    """

    min_pairs: int = 20
    min_coverage: float = 0.5
    max_false_negatives: float = 0.25
    near_positive: float = 0.9
    max_near_positive: float = 0.25
    max_random: float = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures that the gate looks at.

    Attributes:
        negatives: rows with label 0.
        false_negatives: estimated share and its 95 % interval; None where nothing tells.
        near_positive: share of negatives whose cosine to the positive is at least the policy's.
        random: share of negatives drawn at random.
        control: the preset is a control, which promises no hard negatives.
    """

    pairs: int
    negatives: int
    coverage: float
    false_negatives: tuple[float, float, float] | None
    near_positive: float
    random: float
    control: bool = False


DEFAULT_POLICY = MiningGatePolicy()
Objection = tuple[Verdict, str]


def judge(measured: Measured, policy: MiningGatePolicy = DEFAULT_POLICY) -> tuple[Verdict, tuple[str, ...]]:
    """Names the gravest objection, and what to do about each, gravest first; GOOD and nothing without any."""
    found = list(_list_objections(measured, policy))
    return (found[0][0] if found else "GOOD"), tuple(advice for _, advice in found)


def _list_objections(measured: Measured, policy: MiningGatePolicy) -> Iterator[Objection]:
    """Lists objections, gravest first."""
    if not measured.pairs:
        yield "NO_DATA", _NO_DATA
    elif not measured.negatives:
        yield "LOW_COVERAGE", f"none of {measured.pairs:,} pairs got a negative: {_MORE_NEGATIVES}"
    else:
        yield from _list_dangers(measured, policy)
        if measured.pairs < policy.min_pairs:
            yield (
                "LOW_COVERAGE",
                f"there {'is' if measured.pairs == 1 else 'are'} {measured.pairs:,} (query, positive) "
                f"pair{'s' * (measured.pairs != 1)}, under {policy.min_pairs:,}: {_MORE_PAIRS}",
            )
        if measured.coverage < policy.min_coverage:
            yield (
                "LOW_COVERAGE",
                f"{measured.coverage:.0%} of the pairs got a negative, under {policy.min_coverage:.0%}: "
                f"{_MORE_NEGATIVES}",
            )
        if measured.random > policy.max_random and not measured.control:
            yield (
                "TOO_EASY",
                f"{measured.random:.0%} of the negatives are random, over {policy.max_random:.0%}: {_HARDER}",
            )


def _list_dangers(measured: Measured, policy: MiningGatePolicy) -> Iterator[Objection]:
    if measured.false_negatives and measured.false_negatives[0] > policy.max_false_negatives:
        share, low, high = measured.false_negatives
        yield (
            "FALSE_NEGATIVES",
            f"an estimated {share:.0%} ({low:.0%} to {high:.0%}) of the negatives answer their query, over "
            f"{policy.max_false_negatives:.0%}: {_FEWER_FALSE}",
        )
    if measured.near_positive > policy.max_near_positive:
        yield (
            "TOO_NEAR_POSITIVE",
            f"{measured.near_positive:.0%} of the negatives have a cosine of {policy.near_positive} or more "
            f"to their positive, over {policy.max_near_positive:.0%}: {_FARTHER}",
        )


_NO_DATA = (
    "there is no (query, positive) pair: give judgments of documents that the collection holds, or collect "
    "more clicks of more users"
)
_MORE_PAIRS = "give judgments of more queries, or collect clicks of more users"
_MORE_NEGATIVES = (
    "take more candidates (--depth), loosen the constants (--set), or use a preset that fills up (`quarry`)"
)
_HARDER = "take more candidates (--depth), add members (--members), or loosen the constants (--set)"
_FEWER_FALSE = (
    "calibrate on audited queries (--calibrate), use a positive-aware preset (`quarry`, `perc-pos`), or "
    "re-label with a re-ranker (`relabelled`)"
)
_FARTHER = "lower the bound on s(p,d) (--set), or use `semi-hard` or `quarry`"
