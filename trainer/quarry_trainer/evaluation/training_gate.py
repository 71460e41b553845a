"""The gate of a training: a typed verdict on whether a model is proven better, and what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quarry.training.examples_limits import LEAST_DECIDING
from quarry.training.spec import Caution, ModelVerdict
from quarry_trainer.evaluation.resampling import UNKNOWN, Interval
from quarry_trainer.evaluation.slices import ALL, UNSEEN


@dataclass(frozen=True, slots=True)
class TrainingGatePolicy:
    """The evidence that a verdict needs.

    Attributes:
        min_queries: judged held-out queries, or held-out queries with clicks. Of fewer, a bootstrap knows
            neither the spread nor the tails where a few queries lose much: where half of the queries win a
            little and a fifth lose twice as much and more, it calls a model improved that is not in 3.6 % of
            cases with 20, and in 2.8 % with 40, where 2.5 % are promised.
        min_unseen: held-out queries whose documents training did not see, from which these are judged by
            themselves. Of fewer nothing can be told: what is improved then is so with a caution.
        max_unseen_loss: of nDCG@10, or of clicks for a search, on unseen queries, more than which no model is
            called improved, however sure or unsure the loss is: what is won on queries that are known is not
            worth a loss on all that will be asked.
        max_quantization_loss: of nDCG@10, of the model as it serves in int8 against itself in float32.
        max_owner_share: of the held-out clicks, one owner's. Over it the verdict would be that owner's.
            Guards cap an owner's clicks query by query (``quarry.feedback.reading.guards``), not over
            queries.
        min_explored_clicks: on hits that exploration moved; on fewer, how well ranks are seen is not known
            within a factor of two.
        min_effective_sample: clicks that an estimate rests on, after weighing.
        min_support: share of either ranking's top ten that was ever displayed. What was not displayed was
            not clicked, however good it is.
    """

    min_queries: int = LEAST_DECIDING
    min_unseen: int = 10
    max_unseen_loss: float = 0.005
    max_quantization_loss: float = 0.01
    max_owner_share: float = 0.5
    min_explored_clicks: int = 30
    min_effective_sample: float = 50.0
    min_support: float = 0.8


DEFAULT_POLICY = TrainingGatePolicy()
Ruling = tuple[ModelVerdict, tuple[str, ...]]


def choose_level(earlier_decisions: int) -> float:
    """Chooses the level of the interval that decides, after ``earlier_decisions`` decisions on the same
    queries or clicks.

    Who tries often enough wins by chance. The k-th decision has the error ``0.05 / k ** 2``, half of it on
    the side of improvement: over any number of decisions, a model that is no better is called improved with
    a probability of at most 0.025 * pi ** 2 / 6 = 0.041.

    Source: Bonferroni's inequality with a convergent series, as in alpha spending (Lan and DeMets,
    Biometrika 1983). It takes what is tried for chosen without a look at the answers before; of those, a
    loop of retraining sees no more than verdicts.
    """
    return 1 - 0.05 / (earlier_decisions + 1) ** 2


@dataclass(frozen=True, slots=True)
class JudgmentEvidence:
    """The evidence that the gate looks at with judgments.

    Attributes:
        queries: how many have a relevant document; with ``found`` of them, it is among the candidates.
        differences: of nDCG@10, candidate less what it is compared with, by slice: ``all`` and, if some
            queries are unseen, ``unseen``; 95 % intervals.
        unseen: unseen queries.
        kept_out: queries that were left out, since the candidate was trained on them.
        changed: whether any order differs.
        finite: whether all scores are.
        quantization: of nDCG@10, candidate as it serves less candidate in float32; None: it serves in that.
    """

    queries: int
    found: int
    differences: Mapping[str, Interval]
    unseen: int = 0
    kept_out: int = 0
    changed: bool = True
    finite: bool = True
    quantization: Interval | None = None


def judge(
    evidence: JudgmentEvidence, earlier_decisions: int = 0, policy: TrainingGatePolicy = DEFAULT_POLICY
) -> Ruling:
    """Judges by judgments; returns the verdict and advice.

    REGRESSED if all queries or the unseen ones are surely worse; IMPROVED if all are surely better and the
    unseen ones not worse by more than ``max_unseen_loss``.
    """
    if (refusal := _find_refusal(evidence, policy)) is not None:
        return refusal
    level = choose_level(earlier_decisions)
    sure = {name: interval.widen(level) for name, interval in evidence.differences.items()}
    if evidence.unseen < policy.min_unseen:
        sure.pop(UNSEEN, None)
    notes = tuple(_write_notes(evidence, earlier_decisions, policy))
    worse = [name for name, interval in sure.items() if interval.upper < 0]
    if worse:
        name = ALL if ALL in worse else UNSEEN
        return "REGRESSED", (f"{_describe_interval(sure[name], name)}: {_WORSE[name]}", *notes)
    if not evidence.changed:
        return "NO_IMPROVEMENT", (_UNCHANGED, *notes)
    if sure[ALL].lower <= 0:
        return "NO_IMPROVEMENT", (f"{_describe_interval(sure[ALL], ALL)}: {_UNSURE}", *notes)
    if UNSEEN in sure and sure[UNSEEN].value < -policy.max_unseen_loss:
        return "NO_IMPROVEMENT", (f"{_describe_interval(sure[UNSEEN], UNSEEN)}: {_BY_HEART}", *notes)
    return "IMPROVED", (_describe_interval(sure[ALL], ALL), *notes)


def _find_refusal(evidence: JudgmentEvidence, policy: TrainingGatePolicy) -> Ruling | None:
    if not evidence.finite:
        return "BAD_DATA", (_NOT_FINITE,)
    if not evidence.queries and not evidence.kept_out:
        return "BAD_DATA", (_NOTHING_RELEVANT,)
    if evidence.queries and not evidence.found:
        return "BAD_DATA", (_NOTHING_FOUND,)
    if evidence.queries < policy.min_queries:
        few = f"{evidence.queries:,} judged queries were held out, under {policy.min_queries:,}"
        return "INSUFFICIENT_DATA", (f"{few}: {_MORE_QUERIES}",)
    return None


def _write_notes(
    evidence: JudgmentEvidence, earlier_decisions: int, policy: TrainingGatePolicy
) -> Iterator[str]:
    if evidence.found < evidence.queries / 2:
        share = evidence.found / evidence.queries
        yield f"{share:.0%} of the queries have a relevant document among the candidates: {_FIRST_STAGE}"
    if evidence.unseen < policy.min_unseen:
        yield _describe_few_unseen(evidence.unseen, policy)
    rounded = evidence.quantization
    if rounded is not None and _loses_by_rounding(rounded, policy):
        yield f"in int8 instead of float32 its nDCG@10 differs by {_format_figures(rounded, ALL)}: {_ROUNDED}"
    if earlier_decisions:
        yield _describe_evidence_use(earlier_decisions)


@dataclass(frozen=True, slots=True)
class ClickEvidence:
    """The evidence that the gate looks at without judgments.

    Attributes:
        queries: held-out queries with a click that counts.
        owner_share: of the held-out clicks, those of whoever has most.
        explored_clicks: on hits that stood where exploration had put them.
        effective_sample: the least of the estimates'; ``support`` likewise.
        doubly_robust: difference of candidate and what it is compared with, 95 % interval. So is ``snips``.
        unseen: queries with a click that counts whose documents training did not see.
        unseen_doubly_robust: difference on those alone. So is ``unseen_snips``.
        changed: whether any order differs.
    """

    queries: int
    owner_share: float
    explored_clicks: int
    effective_sample: float
    support: float
    doubly_robust: Interval
    snips: Interval
    unseen: int = 0
    unseen_doubly_robust: Interval = UNKNOWN
    unseen_snips: Interval = UNKNOWN
    changed: bool = True


def judge_clicks(
    evidence: ClickEvidence, earlier_decisions: int = 0, policy: TrainingGatePolicy = DEFAULT_POLICY
) -> Ruling:
    """Judges by clicks; returns the verdict and advice.

    The doubly robust difference decides. It takes what was never displayed for as good as the rest, where
    SNIPS takes it for worthless, so SNIPS must at least point the same way. Unseen queries decide as
    they do by judgments.
    """
    doubts = tuple(_list_doubts(evidence, policy))
    if doubts:
        return doubts[0][0], tuple(advice for _, advice in doubts)
    notes = tuple(_write_click_notes(evidence, earlier_decisions, policy))
    if not evidence.changed:
        return "NO_IMPROVEMENT", (_UNCHANGED, *notes)
    if evidence.unseen >= policy.min_unseen and (
        ruling := _rule_by_unseen_clicks(evidence, earlier_decisions, policy)
    ):
        return ruling[0], (*ruling[1], *notes)
    sure = evidence.doubly_robust.widen(choose_level(earlier_decisions))
    told = _describe_clicks(sure, ALL)
    if sure.lower > 0 and evidence.snips.value > 0:
        return "IMPROVED", (told, *notes)
    if sure.upper < 0 and evidence.snips.value < 0:
        return "REGRESSED", (f"{told}: {_WORSE[ALL]}", *notes)
    if sure.lower > 0 or sure.upper < 0:
        return "NO_IMPROVEMENT", (f"{told}, {_DISAGREE}", *notes)
    return "NO_IMPROVEMENT", (f"{told}: {_UNSURE_CLICKS}", *notes)


def _rule_by_unseen_clicks(
    evidence: ClickEvidence, earlier_decisions: int, policy: TrainingGatePolicy
) -> Ruling | None:
    """Rules by unseen queries alone; None: nothing."""
    sure = evidence.unseen_doubly_robust.widen(choose_level(earlier_decisions))
    told = _describe_clicks(sure, UNSEEN)
    if sure.upper < 0 and evidence.unseen_snips.value < 0:
        return "REGRESSED", (f"{told}: {_WORSE[UNSEEN]}",)
    better = evidence.doubly_robust.widen(choose_level(earlier_decisions)).lower > 0
    if better and sure.value < -policy.max_unseen_loss:
        return "NO_IMPROVEMENT", (f"{told}: {_BY_HEART}",)
    return None


def _write_click_notes(
    evidence: ClickEvidence, earlier_decisions: int, policy: TrainingGatePolicy
) -> Iterator[str]:
    if evidence.unseen < policy.min_unseen:
        yield _describe_few_unseen(evidence.unseen, policy)
    if earlier_decisions:
        yield _describe_evidence_use(earlier_decisions)


def _list_doubts(evidence: ClickEvidence, policy: TrainingGatePolicy) -> Iterator[tuple[ModelVerdict, str]]:
    """Lists doubts, gravest first."""
    if evidence.queries and evidence.owner_share > policy.max_owner_share:
        yield "BAD_DATA", f"one user made {evidence.owner_share:.0%} of the held-out clicks: {_ONE_OWNER}"
    if evidence.queries < policy.min_queries:
        yield (
            "INSUFFICIENT_DATA",
            f"{evidence.queries:,} held-out queries have clicks, under {policy.min_queries:,}: "
            f"{_MORE_CLICKS}",
        )
    if evidence.explored_clicks < policy.min_explored_clicks:
        yield (
            "INSUFFICIENT_DATA",
            f"{evidence.explored_clicks:,} clicks are on hits that exploration had moved, under "
            f"{policy.min_explored_clicks:,}: {_EXPLORE}",
        )
        return  # nothing is estimated without examination
    if evidence.support < policy.min_support:
        yield (
            "INSUFFICIENT_DATA",
            f"{evidence.support:.0%} of a top ten was ever displayed, under {policy.min_support:.0%}: "
            f"{_SUPPORT}",
        )
    if evidence.changed and evidence.effective_sample < policy.min_effective_sample:
        yield (
            "INSUFFICIENT_DATA",
            f"the estimate rests on {evidence.effective_sample:.0f} clicks, after weighing, under "
            f"{policy.min_effective_sample:.0f}: {_MORE_CLICKS}",
        )


def _describe_interval(interval: Interval, name: str) -> str:
    return f"nDCG@10 differs by {_format_figures(interval, name)}"


def _describe_clicks(interval: Interval, name: str) -> str:
    return f"the estimated difference of clicks for a search is {_format_figures(interval, name)}"


def _format_figures(interval: Interval, name: str) -> str:
    where = "" if name == ALL else " on documents that training did not see"
    return f"{interval.value:+.3f} ({interval.lower:+.3f} to {interval.upper:+.3f}){where}"


def list_cautions(
    verdict: ModelVerdict,
    unseen: int,
    policy: TrainingGatePolicy = DEFAULT_POLICY,
    quantization: Interval | None = None,
) -> tuple[Caution, ...]:
    """Lists what a verdict leaves open that rests on so many unseen queries.

    ``quantization`` as in ``JudgmentEvidence``.
    """
    if verdict != "IMPROVED":
        return ()
    held: dict[Caution, bool] = {
        "FEW_UNSEEN": unseen < policy.min_unseen,
        "QUANTIZATION_LOSS": _loses_by_rounding(quantization, policy),
    }
    return tuple(name for name, holds in held.items() if holds)


def _loses_by_rounding(quantization: Interval | None, policy: TrainingGatePolicy) -> bool:
    return quantization is not None and quantization.value < -policy.max_quantization_loss


def _describe_few_unseen(unseen: int, policy: TrainingGatePolicy) -> str:
    return (
        f"documents that training did not see: asked for by {unseen:,} of the queries, under "
        f"{policy.min_unseen:,}; {_FEW_UNSEEN}"
    )


def _describe_evidence_use(earlier_decisions: int) -> str:
    return (
        f"the same evidence has decided {earlier_decisions:,} time{'s' * (earlier_decisions != 1)} before, "
        f"so the interval that decides has a level of {choose_level(earlier_decisions):.2%}; "
        "give judgments of other queries to start anew"
    )


_NOT_FINITE = "a score is not a finite number: lower the learning rate, and look for empty or broken examples"
_NOTHING_RELEVANT = "no held-out query has a relevant document: give judgments with a grade over 0"
_NOTHING_FOUND = (
    "of no query is a relevant document among the candidates: give judgments of documents that the "
    "collection holds, by their ids there"
)
_MORE_QUERIES = "give judgments (--queries, --qrels), or mine examples of more queries"
_FIRST_STAGE = "what retrieval does not find no re-ranker can mend; look at the encoder and the texts first"
_FEW_UNSEEN = (
    "that is too few to tell whether those lose; examples, or judgments (--queries, --qrels), of more "
    "documents would tell"
)
_ROUNDED = "it would be better still in float32 (models.reranker_precision)"
_WORSE: Mapping[str, str] = {
    ALL: "do not promote it; look at the examples' verdict, lower the learning rate, or train for less long",
    UNSEEN: (
        "it knows its examples by heart; train for fewer steps, on more documents, or start with the "
        "documents alone (--pretrain-on)"
    ),
}
_UNCHANGED = (
    "it orders every query as before: on the queries to choose by, no weight of the model was surely better "
    "than the fused order; train on more or on harder examples"
)
_UNSURE = "the interval holds 0; more judged queries narrow it, more or harder examples may move it"
_BY_HEART = (
    "what is won is won on documents that training saw; train on more documents, or for fewer steps, and "
    "give judgments of other documents"
)
_DISAGREE = (
    "but the estimators disagree, since much rests on what was never displayed: go on exploring, or give "
    "judgments (--queries, --qrels)"
)
_UNSURE_CLICKS = (
    "the interval holds 0; more searches with exploration, or judgments (--queries, --qrels), narrow it"
)
_ONE_OWNER = (
    "tell programs apart (`simulated`), delete what is not a person's, or give judgments (--queries, --qrels)"
)
_MORE_CLICKS = "collect clicks for longer, or give judgments (--queries, --qrels)"
_EXPLORE = (
    "clicks favour whatever was displayed first; search with `exploration.swap_probability`, or give "
    "judgments (--queries, --qrels)"
)
_SUPPORT = "clicks say nothing of what nobody saw; give judgments (--queries, --qrels)"
