"""Documents of one title speak of one thing, and are seen or unseen together."""

from collections.abc import Mapping, Sequence

from tests.unit.trainer.data.test_training_data import group

from quarry.mining.spec import JudgedQuery
from quarry_trainer.data.dataset import Examples
from quarry_trainer.data.entities import MOST_OF_ONE, find_entities, judge_by_entity
from quarry_trainer.data.model_memory import Memory, make_provenance
from quarry_trainer.data.query_split import split_queries


def facets(ids: Sequence[str]) -> Mapping[str, str]:
    """``d7-causes`` is entitled ``Disease d7``."""
    return {id: f"Disease {id.split('-')[0]}" for id in ids}


def test_documents_that_share_a_title_speak_of_one_thing() -> None:
    titles = {"a": "Gout", "b": " gout ", "c": "Anemia", "d": "", "e": "?"}
    assert find_entities([*titles, "gone"], lambda _ids: titles) == {
        "a": "title:gout",
        "b": "title:gout",
        "c": "title:anemia",
    }


def test_a_title_that_all_documents_have_says_nothing() -> None:
    ids = [f"d{n}" for n in range(MOST_OF_ONE + 1)]
    assert find_entities(ids, lambda some: dict.fromkeys(some, "Our help centre")) == {}
    assert len(find_entities(ids[1:], lambda some: dict.fromkeys(some, "Gout"))) == MOST_OF_ONE


def test_the_best_judgment_of_a_thing_holds() -> None:
    query = JudgedQuery(id="q", text="gout", judgments={"a": 0, "b": 2, "c": 1})
    (made,) = judge_by_entity([query], {"a": "gout", "b": "gout"})
    assert made.judgments == {"gout": 2, "c": 1}


def test_a_question_on_a_disease_that_training_saw_is_known() -> None:
    """Each disease has two answers; no two queries share a document."""
    groups = [group(f"q{n}-{what}", f"d{n}-{what}", "x") for n in range(150) for what in ("causes", "cure")]
    own = Examples(tuple(groups), simulated=False, data_hash="")
    entities = find_entities([g.positive for g in groups], facets)
    parts = split_queries(own, (), entities=entities)
    trained = {g.query_id.split("-")[0] for g in parts.train}
    held_out = [*parts.development, *parts.gate]
    assert {parts.known[query.id] for query in held_out} == {True, False}
    for query in held_out:
        assert parts.known[query.id] == (query.id.split("-")[0] in trained)
    alone = split_queries(own, ())
    assert not any(alone.known.values()), "by document all of them are unseen"


def test_given_judgments_are_known_by_entity_too() -> None:
    own = Examples((group("q", "d1-causes", "x"),), simulated=False, data_hash="")
    judged = [
        JudgedQuery(id=id, text=f"about {id}", judgments={id: 1})
        for id in ("d1-cure", "d2-cure", "d2-causes")
    ]
    ids = ["d1-causes", *(query.id for query in judged)]
    parts = split_queries(own, judged, entities=find_entities(ids, facets))
    assert {id.removeprefix("judged:"): known for id, known in parts.known.items()} == {
        "d1-cure": True,
        "d2-cure": False,
        "d2-causes": False,
    }


def test_what_an_earlier_training_saw_of_a_disease_is_known_in_the_next() -> None:
    """The next one's examples and judgments do not have the document that the earlier one learned."""
    first = group("q", "d1-causes", "x")
    before = make_provenance([first], "faq", find_entities(["d1-causes"], facets))
    memory = Memory(before, "faq")
    own = Examples((group("r", "d9-cure", "x"),), simulated=False, data_hash="")
    judged = [JudgedQuery(id=id, text=f"about {id}", judgments={id: 1}) for id in ("d1-cure", "d2-cure")]
    entities = find_entities(["d9-cure", "d1-cure", "d2-cure"], facets)
    parts = split_queries(own, judged, memory, entities)
    assert parts.known == {"judged:d1-cure": True, "judged:d2-cure": False}
    assert memory.find_read(judged, entities).documents == {"title:disease d1"}
    assert not memory.is_new(["d1-cure"], entities)
    assert memory.is_new(["d1-cure"]), "by document alone it is unseen"
    assert Memory(before, "another").is_new(["d1-cure"], entities)
