"""Splits a training's queries: which to learn from, to choose by and to decide by."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from quarry.mining.spec import CLICK_ID_PREFIX, JudgedQuery
from quarry.questions import make_question_key
from quarry.training.hashes import Marks, mark_queries
from quarry_trainer.data.dataset import BadExamplesError, Examples, Group, list_learned_documents
from quarry_trainer.data.division import divide
from quarry_trainer.data.entities import NO_ENTITIES, Entities, judge_by_entity
from quarry_trainer.data.known_unseen import LEAST_OF_HALF
from quarry_trainer.data.model_memory import NO_MEMORY, Memory

JUDGED = "judged:"
"""In front of the ids of judged queries that are given: another file may use the same for other texts."""


CHOOSING_SHARE, LEAST_TO_DIVIDE = 0.4, 70
"""Of judged queries that are given, for choices. Fewer all decide, for the gate asks for forty, and some of
the examples' choose."""


DEVELOPMENT_QUERIES = 150
"""Most that choices are made by: each is 50 pairs."""


@dataclass(frozen=True, slots=True)
class QuerySplit:
    """Queries by what they are for.

    Attributes:
        train: groups to learn from.
        development, gate: queries with their relevant documents.
        known: whether training sees a relevant document of a held-out query, or one that speaks of the same
            thing, by id.
        source: of what decides: ``judgments``; ``examples``, whose positives were judged; or ``clicks``.
        kept_out: queries that would choose or decide, had the base not been trained on them.
    """

    train: tuple[Group, ...]
    development: tuple[JudgedQuery, ...]
    gate: tuple[JudgedQuery, ...]
    known: Mapping[str, bool]
    source: str
    kept_out: int = 0

    @property
    def decided_by(self) -> Marks:
        """Marks of the judged queries that decide, of those with a relevant document."""
        if self.source == "clicks":
            return frozenset()
        return mark_judged(self.gate)


def mark_judged(queries: Sequence[JudgedQuery]) -> Marks:
    """Hashes the queries that have a relevant document: the others decide nothing."""
    return mark_queries(query.text for query in queries if max(query.judgments.values(), default=0) > 0)


def split_queries(
    examples: Examples,
    judgments: Sequence[JudgedQuery],
    memory: Memory = NO_MEMORY,
    entities: Entities = NO_ENTITIES,
) -> QuerySplit:
    """Splits queries: which to learn from, to choose by and to decide by.

    Queries that are judged choose and decide, and those with the same text are not learned from. Without
    them the examples' own queries are divided in three; of those that are to decide, the judged ones
    do. Clicked ones choose nothing: what was clicked favours the order that was shown, and any other would
    lose. Where all are clicked ones their clicks decide, as far as exploration lets them. What the base was
    trained on neither chooses nor decides.

    Args:
        entities: what relevant documents speak of. Those of one thing are seen or unseen together.

    Raises:
        BadExamplesError: nothing is left to learn from.
    """
    own = [JudgedQuery(id=id, text=examples.queries[id], judgments=j) for id, j in examples.positives.items()]
    parts = (
        _split_judged_apart(examples, own, judgments, memory, entities)
        if judgments
        else _split_one_set(examples, own, memory, entities)
    )
    if not parts.train:
        raise BadExamplesError("no query is left to learn from once some are held out")
    return parts


def _split_one_set(
    examples: Examples, own: Sequence[JudgedQuery], memory: Memory, entities: Entities
) -> QuerySplit:
    before = memory.find_read(own, entities)
    division = divide(judge_by_entity(own, entities), before=before)
    gate = tuple(query for query in own if query.id in division.gate)
    judged = tuple(_keep_judged(gate))
    clicked = all(query.id.startswith(CLICK_ID_PREFIX) for query in gate or own)
    choosing = division.development & {query.id for query in _keep_judged(own)}
    return QuerySplit(
        _select_groups(examples, division.train | division.development - choosing),
        _select_queries(own, choosing),
        judged or gate,
        division.knows(choosing | division.gate),
        "clicks" if clicked else "examples",
        len(before.queries),
    )


def _split_judged_apart(
    examples: Examples,
    own: Sequence[JudgedQuery],
    judgments: Sequence[JudgedQuery],
    memory: Memory,
    entities: Entities,
) -> QuerySplit:
    texts = {make_question_key(query.text) for query in judgments}
    left = [query for query in own if make_question_key(query.text) not in texts]
    fresh = [query for query in judgments if not memory.has_read(query)]
    asked = [query.model_copy(update={"id": f"{JUDGED}{query.id}"}) for query in fresh]
    chosen_by = _choose_by_judgments(asked)
    choosing = [query for query in asked if query.id in chosen_by]
    held = _hold_back(examples, left, choosing, memory, entities)
    train = _select_groups(examples, frozenset(query.id for query in left) - held)
    development = (*choosing, *_select_queries(own, held))
    return QuerySplit(
        train,
        development,
        tuple(query for query in asked if query.id not in chosen_by),
        _find_known((*asked, *development), list_learned_documents(train), memory, entities),
        "judgments",
        len(judgments) - len(fresh),
    )


def _hold_back(
    examples: Examples,
    own: Sequence[JudgedQuery],
    choosing: Sequence[JudgedQuery],
    memory: Memory,
    entities: Entities,
) -> frozenset[str]:
    """Holds back the ids of the examples' queries that choose beside the judged ones: all that a division
    gives where none of those chooses, and unseen ones where they are nearly all known, or a model that has
    learned its documents by heart would be chosen for that."""
    judged = _keep_judged(own)
    division = divide(judge_by_entity(judged, entities), before=memory.find_read(judged, entities))
    if not choosing:
        return division.development
    learned = list_learned_documents(_select_groups(examples, frozenset(query.id for query in own)))
    unseen = sum(not known for known in _find_known(choosing, learned, memory, entities).values())
    return frozenset() if unseen >= LEAST_OF_HALF else division.development - division.known


def _keep_judged(queries: Iterable[JudgedQuery]) -> list[JudgedQuery]:
    """Keeps all queries but those that people have only clicked for."""
    return [query for query in queries if not query.id.startswith(CLICK_ID_PREFIX)]


def _find_known(
    queries: Sequence[JudgedQuery], learned: Collection[str], memory: Memory, entities: Entities
) -> dict[str, bool]:
    """Finds whether training sees, or the base has seen, what a relevant document of each speaks of."""
    things = {entities.get(id, id) for id in learned}

    def sees(query: JudgedQuery) -> bool:
        return any(entities.get(d, d) in things for d, grade in query.judgments.items() if grade > 0)

    return {query.id: sees(query) or memory.has_seen(query, entities) for query in queries}


def _choose_by_judgments(judgments: Sequence[JudgedQuery]) -> frozenset[str]:
    """Chooses the ids of the judged queries that choices are made by.

    The others decide. Of a few none: all decide.
    """
    if len(judgments) < LEAST_TO_DIVIDE:
        return frozenset()
    size = min(DEVELOPMENT_QUERIES, round(CHOOSING_SHARE * len(judgments)))
    return frozenset(query.id for query in sorted(judgments, key=_hash_text)[:size])


def _select_groups(examples: Examples, ids: frozenset[str]) -> tuple[Group, ...]:
    return tuple(group for group in examples.groups if group.query_id in ids)


def _select_queries(queries: Sequence[JudgedQuery], ids: frozenset[str]) -> tuple[JudgedQuery, ...]:
    held = [query for query in queries if query.id in ids]
    return tuple(sorted(held, key=_hash_text)[:DEVELOPMENT_QUERIES])


def _hash_text(query: JudgedQuery) -> bytes:
    """Hashes the text: what is held out in one training is in the next, whatever the seed."""
    return hashlib.blake2b(make_question_key(query.text).encode("utf-8", "surrogatepass")).digest()
