"""How judged queries are divided."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.mining.spec import JudgedQuery
from quarry_trainer.data.division import Before, Division, choose_held_out_size, divide


def judged(id: str, *documents: str, text: str = "") -> JudgedQuery:
    return JudgedQuery(id=id, text=text or f"text of {id}", judgments=dict.fromkeys(documents, 1))


def relevant(queries: list[JudgedQuery]) -> dict[str, set[str]]:
    return {q.id: {d for d, grade in q.judgments.items() if grade > 0} for q in queries}


def check(queries: list[JudgedQuery], division: Division) -> None:
    """What holds of every division."""
    documents = relevant(queries)
    parts = (division.train, division.development, division.gate)
    assert sorted(id for part in parts for id in part) == sorted(documents)
    held_out = division.development | division.gate
    assert division.known <= held_out
    for id in held_out:
        assert documents[id], "a query without a relevant document cannot be measured"


def faq(questions: int, documents: int, seed: int = 0) -> list[JudgedQuery]:
    """Several questions for each document, one document for each question."""
    random = Random(seed)
    return [judged(f"q{n}", f"d{random.randrange(documents)}") for n in range(questions)]


GRAPHS = st.lists(st.sets(st.integers(0, 12), max_size=3), min_size=0, max_size=60)


@given(graph=GRAPHS, seed=st.integers(0, 3), random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_known_and_unseen_are_what_they_say(graph: list[set[int]], seed: int, random: Random) -> None:
    queries = [judged(f"q{n}", *(f"d{d}" for d in some)) for n, some in enumerate(graph)]
    division = divide(queries, seed)
    check(queries, division)
    documents = relevant(queries)
    trained = {d for id in division.train for d in documents[id]}
    for id in division.development | division.gate:
        assert (id in division.known) == bool(documents[id] & trained)
    for part in (division.development, division.gate):
        assert len(part) <= choose_held_out_size(sum(map(bool, documents.values())))
    random.shuffle(queries)
    assert divide(queries, seed) == division


def test_parts_have_their_share_and_a_third_of_each_is_unseen() -> None:
    queries = faq(1_000, 300)
    division = divide(queries)
    check(queries, division)
    for part in (division.development, division.gate):
        assert len(part) == 150
        assert len(part - division.known) == pytest.approx(50, abs=2)


def test_few_queries_are_held_out_up_to_a_quarter_of_them() -> None:
    assert [choose_held_out_size(n) for n in (0, 3, 8, 80, 160, 200, 400)] == [0, 0, 2, 20, 40, 40, 60]


def test_where_every_query_has_a_document_of_its_own_all_held_out_are_unseen() -> None:
    queries = [judged(f"q{n}", f"d{n}") for n in range(200)]
    division = divide(queries)
    check(queries, division)
    assert (len(division.development), len(division.gate)) == (40, 40)
    assert not division.known


def test_where_all_queries_hang_together_all_held_out_are_known() -> None:
    queries = [judged(f"q{n}", f"d{n}", f"d{n + 1}") for n in range(200)]
    division = divide(queries)
    check(queries, division)
    assert (len(division.development), len(division.gate)) == (40, 40)
    assert division.known == division.development | division.gate


def test_the_same_question_is_not_in_two_parts() -> None:
    """Not even if its answers have nothing in common, and it is written in other letters."""
    queries = [
        judged(f"q{n}", f"d{n}", text=f"Question  {n // 2}" if n % 2 else f"question {n // 2} ")
        for n in range(400)
    ]
    division = divide(queries)
    part_of = {id: part for part in (division.train, division.development, division.gate) for id in part}
    assert all(part_of[f"q{n}"] is part_of[f"q{n + 1}"] for n in range(0, 400, 2))


def test_queries_without_a_relevant_document_are_trained_on() -> None:
    none = [JudgedQuery(id=f"n{n}", text=f"n{n}", judgments={"d1": 0, "d2": -1}) for n in range(50)]
    division = divide([*faq(100, 50), *none])
    assert {query.id for query in none} <= division.train


def test_another_seed_divides_otherwise() -> None:
    queries = faq(300, 100)
    assert divide(queries, 1).gate != divide(queries, 2).gate
    assert divide(queries, 1) == divide(queries, 1)
    assert divide([]) == Division(frozenset(), frozenset(), frozenset(), frozenset())


@given(
    graph=GRAPHS, seed=st.integers(0, 3), picked=st.sets(st.integers(0, 59)), seen=st.sets(st.integers(0, 12))
)
@settings(deadline=None)
def test_what_was_trained_on_before_is_held_out_by_no_division(
    graph: list[set[int]], seed: int, picked: set[int], seen: set[int]
) -> None:
    queries = [judged(f"q{n}", *(f"d{d}" for d in some)) for n, some in enumerate(graph)]
    before = Before(frozenset(f"q{n}" for n in picked), frozenset(f"d{d}" for d in seen))
    division = divide(queries, seed, before)
    check(queries, division)
    held_out = division.development | division.gate
    assert held_out.isdisjoint(before.queries)
    documents = relevant(queries)
    trained = {d for id in division.train for d in documents[id]} | before.documents
    assert division.known == {id for id in held_out if documents[id] & trained}


def test_a_grown_set_holds_out_what_the_base_did_not_read() -> None:
    """As turns of a loop meet it: all queries of the turn before are there again, and some more."""
    queries = faq(1_200, 300)
    first = divide(queries[:1_000])
    documents = relevant(queries)
    before = Before(first.train, frozenset(d for id in first.train for d in documents[id]))
    second = divide(queries, before=before)
    check(queries, second)
    assert not before.queries & (second.development | second.gate)
    assert divide(queries).gate & before.queries, "without memory some are held out that were trained on"
    for part in (second.development, second.gate):
        assert len(part) == 180
        assert len(part - second.known) >= 40


def test_few_queries_that_are_new_are_held_out_evenly() -> None:
    queries = faq(200, 60)
    division = divide(queries, before=Before(frozenset(f"q{n}" for n in range(180))))
    assert (len(division.development), len(division.gate)) == (10, 10)
    nothing = divide(queries, before=Before(frozenset(query.id for query in queries)))
    assert not nothing.gate and not nothing.development
    assert nothing.train == {query.id for query in queries}
