"""What a training learns from, chooses by and is judged by, and the texts that it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.trainer.ranked import ranked_query

from quarry.mining.spec import CLICK_ID_PREFIX, JudgedQuery
from quarry.training.hashes import mark_queries
from quarry_trainer.data.dataset import BadExamplesError, Examples, Group
from quarry_trainer.data.drop_reasons import Dropped
from quarry_trainer.data.known_unseen import LEAST_OF_HALF
from quarry_trainer.data.live import RankedQuery
from quarry_trainer.data.model_memory import Memory, make_provenance
from quarry_trainer.data.query_split import JUDGED, LEAST_TO_DIVIDE, split_queries
from quarry_trainer.data.text_groups import make_text_groups
from quarry_trainer.data.training_data import rank_once


def group(id: str, positive: str, *others: str, text: str = "") -> Group:
    return Group(
        id, text or f"text {id}", positive, others, tuple(False for _ in others), tuple(1.0 for _ in others)
    )


def examples(count: int, prefix: str = "") -> Examples:
    groups = [group(f"{prefix}q{n}", f"d{n % 30}", "x", "y", text=f"text {n}") for n in range(count)]
    return Examples(tuple(groups), simulated=False, data_hash="")


def judged(count: int, first: int = 0) -> list[JudgedQuery]:
    return [
        JudgedQuery(id=f"j{n}", text=f"Judged  {n}", judgments={f"d{n % 40}": 1})
        for n in range(first, first + count)
    ]


def test_examples_are_divided_where_nothing_else_is_judged() -> None:
    parts = split_queries(examples(200), ())
    held = {query.id for query in (*parts.development, *parts.gate)}
    assert parts.source == "examples"
    assert {g.query_id for g in parts.train}.isdisjoint(held)
    assert len(parts.train) + len(held) == 200
    assert {parts.known[id] for id in held} == {True, False}


def test_where_all_queries_are_clicked_ones_clicks_decide() -> None:
    parts = split_queries(examples(200, CLICK_ID_PREFIX), ())
    assert parts.source == "clicks"
    assert not parts.decided_by


def test_what_the_base_was_trained_on_neither_chooses_nor_decides() -> None:
    own = examples(200)
    first = split_queries(own, ())
    memory = Memory(make_provenance(first.train, "faq"), "faq")
    second = split_queries(own, (), memory)
    trained = {group.query_id for group in first.train}
    assert second.kept_out == len(trained) == 120
    assert second.source == "examples"
    assert {query.id for query in (*second.development, *second.gate)}.isdisjoint(trained)
    assert len(second.gate) == 40
    elsewhere = split_queries(own, (), Memory(memory.provenance, "another collection"))
    assert {query.id for query in elsewhere.gate}.isdisjoint(trained), "a query is one in every collection"


def test_judged_queries_that_the_base_was_trained_on_are_left_out() -> None:
    read = judged(10)
    before = make_provenance([group("x", "d35", text=query.text) for query in read], "faq")
    parts = split_queries(examples(100), judged(60), Memory(before, "faq"))
    assert parts.kept_out == 10
    asked = [query for query in (*parts.development, *parts.gate) if query.id.startswith(JUDGED)]
    assert len(asked) == 50
    assert {query.text for query in asked}.isdisjoint(query.text for query in read)
    assert parts.known[f"{JUDGED}j35"], "its base learned the document"
    assert not split_queries(examples(100), judged(60)).known[f"{JUDGED}j35"]
    none = split_queries(examples(100), read, Memory(before, "faq"))
    assert (none.gate, none.source, none.kept_out) == ((), "judgments", 10)


def test_a_verdict_rests_on_queries_with_a_relevant_document() -> None:
    empty = [JudgedQuery(id=f"e{n}", text=f"empty {n}", judgments={"d1": 0}) for n in range(30)]
    given = judged(30)
    assert split_queries(examples(100), [*given, *empty]).decided_by <= mark_queries(q.text for q in given)
    assert split_queries(examples(100), given).decided_by == mark_queries(q.text for q in given)
    parts = split_queries(examples(200), ())
    assert parts.decided_by == mark_queries(query.text for query in parts.gate)


def test_judged_queries_choose_and_decide_and_are_not_learned_from() -> None:
    own = examples(100)
    same = JudgedQuery(id="same", text=" TEXT  7 ", judgments={"d7": 1})
    parts = split_queries(own, [*judged(99), same])
    chosen, decided = (
        {query.id.removeprefix(JUDGED) for query in part} for part in (parts.development, parts.gate)
    )
    assert parts.source == "judgments"
    assert "text 7" not in {g.query for g in parts.train}
    assert len(parts.train) == 99
    assert chosen.isdisjoint(decided)
    assert chosen | decided == {query.id for query in [*judged(99), same]}
    assert len(chosen) == 40
    assert parts.known[f"{JUDGED}j3"] is True
    assert parts.known[f"{JUDGED}j35"] is False


def test_where_all_that_choose_are_known_some_unseen_examples_choose_too() -> None:
    own = examples(200)
    known = [JudgedQuery(id=f"j{n}", text=f"judged {n}", judgments={f"d{n % 30}": 1}) for n in range(80)]
    parts = split_queries(own, known)
    beside = [query for query in parts.development if not query.id.startswith(JUDGED)]
    assert len(beside) >= LEAST_OF_HALF
    assert not any(parts.known[query.id] for query in beside)
    assert {query.id for query in beside}.isdisjoint(group.query_id for group in parts.train)
    learned = {group.positive for group in parts.train}
    assert learned.isdisjoint(document for query in beside for document in query.judgments)
    unseen = [JudgedQuery(id=f"u{n}", text=f"unseen {n}", judgments={"new": 1}) for n in range(80)]
    assert all(query.id.startswith(JUDGED) for query in split_queries(own, [*known, *unseen]).development)


def test_judged_queries_may_have_the_ids_of_examples() -> None:
    other = [JudgedQuery(id=f"q{n}", text=f"other {n}", judgments={f"d{n}": 1}) for n in range(80)]
    parts = split_queries(examples(60), other)
    trained = {g.query_id for g in parts.train}
    assert len(trained) == 60
    assert trained.isdisjoint(query.id for query in (*parts.development, *parts.gate))


def test_a_document_that_was_relabelled_as_relevant_is_known() -> None:
    one = Group("q", "text", "a", ("b", "c"), (True, False), (1.0, 1.0))
    asked = [JudgedQuery(id=d, text=f"about {d}", judgments={d: 1}) for d in ("b", "c")]
    parts = split_queries(Examples((one,), simulated=False, data_hash=""), asked)
    assert parts.known == {f"{JUDGED}b": True, f"{JUDGED}c": False}


def test_a_few_judged_queries_all_decide() -> None:
    parts = split_queries(examples(100), judged(LEAST_TO_DIVIDE - 1))
    assert len(parts.gate) == LEAST_TO_DIVIDE - 1
    chosen = {query.id for query in parts.development}
    assert len(chosen) > 10
    assert chosen.isdisjoint(g.query_id for g in parts.train)
    assert set(parts.known) == chosen | {query.id for query in parts.gate}


def test_examples_that_are_all_held_out_teach_nothing() -> None:
    own = Examples((group("q", "d", "x", text="judged 0"),), simulated=False, data_hash="")
    with pytest.raises(BadExamplesError, match="no query is left"):
        split_queries(own, judged(1))


def test_clicked_queries_choose_nothing() -> None:
    own = examples(200, CLICK_ID_PREFIX)
    parts = split_queries(own, ())
    assert parts.development == ()
    assert len(parts.train) + len(parts.gate) == 200
    assert split_queries(own, judged(20)).development == (), "few judged queries all decide"


def matching(query: str, ids: Sequence[str]) -> Mapping[str, str]:
    return {id: f"first of {id}" for id in ids if id != "gone"}


def test_groups_read_what_the_first_stage_gives_and_matching_passages_of_the_rest() -> None:
    ranked = {"q": ranked_query("q", ["a", "b"], [0.9, 0.5])}
    (made,) = make_text_groups([group("q", "b", "a", "far", "gone")], ranked, matching)
    assert made.passages == (ranked["q"].passages[1], ranked["q"].passages[0], "first of far")
    assert made.fused == (0.5, 0.9, 0.5)
    assert made.relevant == (True, False, False)


def test_what_answers_no_query_is_a_negative_like_any_other() -> None:
    """Most of what is mined answers nothing: without it a model would learn next to nothing."""
    one = Group("q", "text q", "c", ("a", "never"), (True, False), (1.0, 0.5))
    (made,) = make_text_groups([one], {"q": ranked_query("q", ["z"], [0.9])}, matching)
    assert made.documents == ("c", "a", "never")
    assert made.relevant == (True, True, False)
    assert made.weights == (1.0, 1.0, 0.5)


@pytest.mark.parametrize("one", [group("q", "gone", "a"), group("q", "a", "gone")])
def test_a_group_without_a_positive_or_without_others_is_left_out(one: Group) -> None:
    assert make_text_groups([one], {"q": ranked_query("q", ["a"], [0.9])}, matching) == []


def test_what_cannot_be_read_is_counted_and_named() -> None:
    """Lost positives take their group with them; the others are lost alone."""
    texts = {"a": "answer", "blank": " ?", "copy": " ANSWER\n", "n": "other", "only": "more"}
    documents = ["a", "blank", "copy", "n"]
    found = replace(
        ranked_query("q", documents, [0.9, 0.8, 0.7, 0.6]), passages=tuple(map(texts.get, documents))
    )
    groups = [
        group("q", "a", "blank", "copy", "n", "gone"),
        group("q", "gone", "n"),
        group("q", "blank", "n"),
        group("q", "only", "copy"),
    ]
    dropped = Dropped()

    def readable(query: str, ids: Sequence[str]) -> Mapping[str, str]:
        return {id: texts[id] for id in ids if id in texts}

    (made,) = make_text_groups(groups, {"q": found}, readable, dropped)
    assert (made.documents, made.passages) == (("a", "n"), ("answer", "other"))
    assert dropped.as_json() == {
        "unknown_positive": {"count": 1, "examples": ["q/gone"]},
        "unknown_negative": {"count": 1, "examples": ["q/gone"]},
        "wordless_positive": {"count": 1, "examples": ["q/blank"]},
        "wordless_negative": {"count": 1, "examples": ["q/blank"]},
        "copy": {"count": 2, "examples": ["q/copy", "q/copy"]},
        "no_negative": {"count": 1, "examples": ["q/only"]},
    }


class Counting:
    """A first stage that counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def rank(self, queries: Mapping[str, str], depth: int, counted: object = None) -> list[RankedQuery]:
        self.asked += 1
        return [ranked_query(id, ["a", "b"], [0.9, 0.5], text.strip()) for id, text in queries.items()]


def test_a_resumed_job_reads_what_it_got_at_first(tmp_path: Path) -> None:
    live = Counting()
    for queries in ({"q": "text "}, {"q": "text "}, {"q": "text", "r": "other"}, {"q": "text", "r": "new"}):
        found = rank_once(live, queries, 50, tmp_path, lambda _done, _of: None)  # type: ignore[arg-type]
        assert set(found) == set(queries)
        np.testing.assert_array_equal(found["q"].fused, [0.9, 0.5])
        assert found["q"].documents == ("a", "b")
    assert live.asked == 3
