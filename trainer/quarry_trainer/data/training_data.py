"""The data of a training: its examples with the passages and scores that the live first stage gives them."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from quarry.jobs.files import write_bytes
from quarry.mining.spec import CLICK_ID_PREFIX, JudgedQuery
from quarry.questions import has_words, make_question_key
from quarry.ranking.fusion import round_fused
from quarry.training.hashes import Marks, mark_queries
from quarry_trainer.data.dataset import BadExamplesError, Examples, Group, TextGroup, list_learned_documents
from quarry_trainer.data.division import divide
from quarry_trainer.data.drop_reasons import Dropped, DropReason
from quarry_trainer.data.entities import NO_ENTITIES, Entities, judge_by_entity
from quarry_trainer.data.known_unseen import LEAST_OF_HALF
from quarry_trainer.data.live import Counted, LiveSearch, PassagesOf, RankedQuery
from quarry_trainer.data.model_memory import NO_MEMORY, Memory

RANKED = "ranked.json"
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
    """Finds whether training sees what a relevant document of each speaks of, or the base has seen the
    document."""
    things = {entities.get(id, id) for id in learned}

    def sees(query: JudgedQuery) -> bool:
        return any(entities.get(d, d) in things for d, grade in query.judgments.items() if grade > 0)

    return {query.id: sees(query) or memory.has_seen(query) for query in queries}


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


def rank_once(
    live: LiveSearch, queries: Mapping[str, str], depth: int, work: Path, counted: Counted
) -> dict[str, RankedQuery]:
    """Ranks each query by the first stage, by id; as it was at first if the job was interrupted."""
    kept = work / RANKED
    if kept.exists():
        found = [_from_json(one) for one in orjson.loads(kept.read_bytes())]
        if {query.query_id: query.text for query in found} == {id: t.strip() for id, t in queries.items()}:
            return {query.query_id: query for query in found}
    ranked = live.rank(queries, depth, counted)
    write_bytes(kept, orjson.dumps([_to_json(query) for query in ranked]))
    return {query.query_id: query for query in ranked}


def make_text_groups(
    groups: Sequence[Group],
    ranked: Mapping[str, RankedQuery],
    matching: PassagesOf,
    dropped: Dropped | None = None,
) -> list[TextGroup]:
    """Makes groups with passages and fused scores. Documents that are gone or have no word are left out, and
    so are negatives that read as an answer of their question does, and groups then without a positive or
    without others.

    A document that the first stage did not propose has the passage that matches the query by words, and the
    score of the last proposed.

    Args:
        dropped: counts what is left out.
    """
    others = _find_other_passages(groups, ranked, matching)
    counted = Dropped() if dropped is None else dropped
    rows = [_make_rows(group, ranked[group.query_id], others[group.query_id], counted) for group in groups]
    read: dict[str, set[str]] = defaultdict(set)
    for group, some in zip(groups, rows, strict=True):
        read[make_question_key(group.query)].update(_simplify(row.passage) for row in some if row.relevant)
    made: list[TextGroup] = []
    for group, some in zip(groups, rows, strict=True):
        distinct = _drop_copies(group, some, read[make_question_key(group.query)], counted)
        text = _with_texts(group, ranked[group.query_id], distinct)
        if text is not None:
            made.append(text)
        elif distinct:
            counted.add(DropReason.NO_NEGATIVE, group.query_id, group.positive)
    return made


def _find_other_passages(
    groups: Sequence[Group], ranked: Mapping[str, RankedQuery], matching: PassagesOf
) -> Mapping[str, Mapping[str, str]]:
    """Finds, by query, passages of the documents that its groups have and the first stage did not propose."""
    missing: dict[str, dict[str, None]] = {group.query_id: {} for group in groups}
    for group in groups:
        own = ranked[group.query_id].documents
        missing[group.query_id] |= {id: None for id in (group.positive, *group.documents) if id not in own}
    return {id: matching(ranked[id].text, list(some)) if some else {} for id, some in missing.items()}


class _Row(NamedTuple):
    """A document of a group, as it is read."""

    id: str
    passage: str
    fused: float
    relevant: bool
    weight: float


def _make_rows(group: Group, ranked: RankedQuery, others: Mapping[str, str], dropped: Dropped) -> list[_Row]:
    """Makes the documents of a group that can be read, the positive first; none if that cannot."""
    place = {id: number for number, id in enumerate(ranked.documents)}
    lowest = round_fused(ranked.fused.min()) if len(ranked) else 0.0
    rows: list[_Row] = []
    documents = [
        (group.positive, True, 1.0),
        *zip(group.documents, group.relevant, group.weights, strict=True),
    ]
    for id, relevant, weight in documents:
        passage = ranked.passages[place[id]] if id in place else others.get(id)
        if passage is not None and has_words(passage):
            fused = round_fused(ranked.fused[place[id]]) if id in place else lowest
            rows.append(_Row(id, passage, fused, relevant, weight))
            continue
        gone, wordless = _UNREADABLE[id == group.positive]
        dropped.add(gone if passage is None else wordless, group.query_id, id)
        if id == group.positive:
            return []
    return rows


_UNREADABLE = {
    True: (DropReason.UNKNOWN_POSITIVE, DropReason.WORDLESS_POSITIVE),
    False: (DropReason.UNKNOWN_NEGATIVE, DropReason.WORDLESS_NEGATIVE),
}


def _drop_copies(group: Group, rows: Sequence[_Row], answers: Set[str], dropped: Dropped) -> list[_Row]:
    """Drops from ``rows`` the negatives that a model cannot tell from an answer, for it reads the same of
    both."""
    kept: list[_Row] = []
    for row in rows:
        if not row.relevant and _simplify(row.passage) in answers:
            dropped.add(DropReason.COPY, group.query_id, row.id)
        else:
            kept.append(row)
    return kept


def _simplify(passage: str) -> str:
    return " ".join(passage.split()).casefold()


def _with_texts(group: Group, ranked: RankedQuery, rows: Sequence[_Row]) -> TextGroup | None:
    if all(row.relevant for row in rows):
        return None
    return TextGroup(
        ranked.text,
        tuple(row.id for row in rows),
        tuple(row.passage for row in rows),
        tuple(row.fused for row in rows),
        tuple(row.relevant for row in rows),
        tuple(row.weight for row in rows),
        group.weight,
    )


def _to_json(query: RankedQuery) -> dict[str, object]:
    return {
        "query_id": query.query_id,
        "text": query.text,
        "documents": query.documents,
        "fused": query.fused.tolist(),
        "passages": query.passages,
        "arms": query.arms,
    }


def _from_json(one: Mapping[str, list[object]]) -> RankedQuery:
    return RankedQuery(
        str(one["query_id"]),
        str(one["text"]),
        tuple(map(str, one["documents"])),
        np.array(one["fused"], np.float64),
        tuple(map(str, one["passages"])),
        tuple(tuple(arms) for arms in one["arms"]),  # type: ignore[arg-type]
    )
