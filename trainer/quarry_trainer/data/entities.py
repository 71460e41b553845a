"""Documents that speak of one thing: who has learned of one of them is not new to the others.

A disease has an answer on its symptoms and one on its causes, and a help-desk question has several answers.
They have one title. A model that was trained on one of them knows the words of the others, so they are seen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from quarry.mining.spec import JudgedQuery
from quarry.questions import has_words, make_question_key

MOST_OF_ONE = 50
"""Relevant documents of one title, at most. A title of more, such as a site's name, says nothing."""

TitlesOf = Callable[[Sequence[str]], Mapping[str, str]]
"""The titles of documents by id; without documents that are not there."""
Entities = Mapping[str, str]
"""By document id, the name of what it speaks of; documents that are not there speak of themselves."""
NO_ENTITIES: Entities = {}
"""Every document speaks of itself."""


def read_no_titles(ids: Sequence[str]) -> Mapping[str, str]:
    """Reads empty titles: for documents that are there and have none."""
    return dict.fromkeys(ids, "")


def find_entities(documents: Iterable[str], titles: TitlesOf) -> Entities:
    """Names documents by their titles, those of at most ``MOST_OF_ONE`` of them.

    One that shares its title with none of them is named, too: a later training may learn of another one.
    """
    ids = sorted(set(documents))
    keys = {id: make_question_key(title) for id, title in titles(ids).items() if has_words(title)}
    sizes = Counter(keys.values())
    return {id: f"title:{key}" for id, key in keys.items() if sizes[key] <= MOST_OF_ONE}


def list_relevant(queries: Iterable[JudgedQuery]) -> list[str]:
    """Lists the relevant documents of the queries; one that several ask for is there several times."""
    return [id for query in queries for id, grade in query.judgments.items() if grade > 0]


def judge_by_entity(queries: Sequence[JudgedQuery], entities: Entities) -> list[JudgedQuery]:
    """Judges entities in place of documents; of several the best holds."""
    made = []
    for query in queries:
        grades: dict[str, int] = {}
        for id, grade in query.judgments.items():
            name = entities.get(id, id)
            grades[name] = max(grade, grades.get(name, grade))
        made.append(query.model_copy(update={"judgments": grades}))
    return made
