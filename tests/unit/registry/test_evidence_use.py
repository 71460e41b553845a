"""What decides again counts for less, and only what decided counts."""

from collections.abc import Iterable

import pytest
from pydantic import ValidationError
from tests.unit.registry.small import RESULT, Small, model_folder, small

from quarry.registry.evidence_use import Decision, EvidenceUse, read_decisions
from quarry.training.hashes import Marks, mark_former_query, mark_queries, pack_marks
from quarry.training.spec import ModelVerdict, TrainingResult


def queries(numbers: Iterable[int]) -> Marks:
    return mark_queries(f"query {number}" for number in numbers)


HUNDRED = queries(range(100))


def decided(
    faq: Small,
    attempt: str,
    marks: Marks = HUNDRED,
    verdict: ModelVerdict = "NO_IMPROVEMENT",
    source: str = "judgments",
) -> str:
    """Registers a version on which ``marks`` decided; its name."""
    report = RESULT.evaluation.model_copy(update={"verdict": verdict, "source": source})
    changes = {"evaluation": report, "attempt": attempt, "decided_by": pack_marks(marks)}
    result = RESULT.model_copy(update=changes)
    folder = model_folder(faq.data / "made" / attempt, attempt)
    return faq.registry.register("faq", "reranker", folder, result).name


def spent(faq: Small, collection: str = "faq") -> EvidenceUse:
    return EvidenceUse(faq.database.read(lambda connection: read_decisions(connection, collection)))


def test_what_decided_under_an_earlier_version_is_spent_all_the_same() -> None:
    texts = [f"What is query {number}?" for number in range(100)]
    before = EvidenceUse([Decision("faq@1", "a", frozenset(map(mark_former_query, texts)))])
    assert before.renew_marks(texts).count_by_queries(mark_queries(texts)) == 1
    assert before.renew_marks(texts[:20]).count_by_queries(mark_queries(texts[:20])) == 1


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (range(100), True),
        (range(101), True),  # one more
        (range(1, 100), True),  # one less
        (range(2_000), True),  # grown to twenty times as many
        (range(40, 60), True),  # a fifth of it
        (range(50, 150), True),  # half of it exchanged
        (range(90, 190), True),  # nine tenths exchanged
        (range(91, 191), False),
        (range(200, 300), False),
    ],
)
def test_queries_that_decided_before_are_spent_however_the_set_was_changed(other: range, same: bool) -> None:
    before = EvidenceUse([Decision("faq@1", "a", HUNDRED)])
    assert before.count_by_queries(queries(other)) == int(same)
    assert EvidenceUse([Decision("faq@1", "a", queries(other))]).count_by_queries(HUNDRED) == int(same)
    assert before.count_by_clicks() == 0


def test_a_set_that_takes_a_little_of_many_is_spent_as_often_as_a_tenth_of_it_was() -> None:
    earlier = [Decision(f"faq@{n}", str(n), queries(range(100 * n, 100 * n + 100))) for n in range(11)]
    few_of_each = queries([*(100 * n + m for n in range(11) for m in range(9)), 9_999])
    assert EvidenceUse(earlier[:1]).count_by_queries(few_of_each) == 0
    assert EvidenceUse(earlier[:2]).count_by_queries(few_of_each) == 1  # 18 of 100
    assert EvidenceUse(earlier).count_by_queries(few_of_each) == 1
    again = [Decision(f"{one.model}0", f"{one.attempt}0", one.queries) for one in earlier[:2]]
    assert EvidenceUse([*earlier, *again[:1]]).count_by_queries(few_of_each) == 1  # 9 of 100 a second time
    assert EvidenceUse([*earlier, *again]).count_by_queries(few_of_each) == 2


def test_no_queries_are_never_spent() -> None:
    assert EvidenceUse([Decision("faq@1", "a", HUNDRED)]).count_by_queries(frozenset()) == 0


def test_each_verdict_counts_once_it_is_registered_and_survives_a_restart(faq: Small) -> None:
    faq.create("other")
    assert spent(faq).count_by_queries(HUNDRED) == 0
    for number, attempt in enumerate("abc"):
        decided(faq, attempt)
        assert spent(faq).count_by_queries(queries(range(101))) == number + 1
    assert spent(faq).count_by_queries(queries(range(500, 600))) == 0
    assert spent(faq, "other").count_by_queries(HUNDRED) == 0
    with small(faq.data) as again:
        assert spent(again).count_by_queries(HUNDRED) == 3


def test_a_version_that_is_retired_has_decided_still(faq: Small) -> None:
    faq.registry.retire(decided(faq, "a"))
    assert spent(faq).count_by_queries(HUNDRED) == 1


def test_what_decided_nothing_is_not_spent(faq: Small) -> None:
    decided(faq, "a", verdict="INSUFFICIENT_DATA")
    decided(faq, "b", verdict="BAD_DATA")
    faq.register("imported without a verdict")
    assert spent(faq).decisions == []


def test_an_attempt_that_goes_on_once_it_was_registered_has_decided_once(faq: Small) -> None:
    first, again = decided(faq, "a"), decided(faq, "a")
    assert first != again
    assert spent(faq).count_by_queries(HUNDRED) == 1
    assert spent(faq).exclude(attempt="a").count_by_queries(HUNDRED) == 0
    decided(faq, "b")
    assert spent(faq).count_by_queries(HUNDRED) == 2
    assert spent(faq).exclude(attempt="b").count_by_queries(HUNDRED) == 1


def test_what_is_judged_anew_leaves_its_own_verdict_out(faq: Small) -> None:
    name = decided(faq, "a")
    assert spent(faq).exclude(model=name).count_by_queries(HUNDRED) == 0
    assert spent(faq).exclude(model="faq@9").count_by_queries(HUNDRED) == 1
    assert spent(faq).exclude().count_by_queries(HUNDRED) == 1


def test_clicks_are_one_evidence_and_judgments_another(faq: Small) -> None:
    decided(faq, "a", frozenset(), source="clicks")
    decided(faq, "b", source="examples")
    assert (spent(faq).count_by_clicks(), spent(faq).count_by_queries(HUNDRED)) == (1, 1)


def test_a_result_whose_marks_are_torn_is_refused() -> None:
    with pytest.raises(ValidationError):
        TrainingResult.model_validate(RESULT.model_dump() | {"decided_by": "AAAA"})
