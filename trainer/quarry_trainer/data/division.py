"""Divides judged queries into those to train on, to choose by, and to decide by.

What a model knows by heart says nothing of what it has learned, so part of what is held out asks for
documents that training never sees.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from quarry.mining.spec import JudgedQuery
from quarry.questions import make_question_key

SHARE = 0.15
"""Of the queries, for each of the parts that are held out..."""
LEAST = 40
"""... but so many, unless that is more than a quarter of all."""
UNSEEN_SHARE = 1 / 3
"""Of a part that is held out, for queries whose documents training does not see."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Division:
    """Queries by id, each in one part. Queries with the same text are in the same part.

    Attributes:
        development: held out to choose by: when to stop, how to blend.
        gate: held out to decide by, and for nothing else.
        known: of the held-out queries, those with a relevant document that is also one of a query in
            ``train``, or that the model was trained on before. The others are unseen.
    """

    train: frozenset[str]
    development: frozenset[str]
    gate: frozenset[str]
    known: frozenset[str]

    def knows(self, part: Iterable[str]) -> dict[str, bool]:
        """Tells whether each query of a held-out part is known."""
        return {id: id in self.known for id in part}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Queries with one text, and the documents that are relevant to any of them."""

    text: str
    ids: tuple[str, ...]
    documents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Before:
    """The part of the queries and documents at hand that the model was trained on before, by id."""

    queries: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()


NOTHING_BEFORE = Before()


def divide(queries: Sequence[JudgedQuery], seed: int = 0, before: Before = NOTHING_BEFORE) -> Division:
    """Divides queries by chance: by a hash of the seed and the text, so their order does not matter.

    Queries without a relevant document are in ``train``, for nothing can be decided by them. Connected
    components of the graph of queries and relevant documents are moved to a held-out part whole, until a
    third of it is unseen; the rest of it are single queries of other components, each of which leaves a
    relevant document to training. What is short after that is filled up with whole components.

    Queries that the model was trained on before stay in ``train``, and components with one of them are not
    moved whole.
    """
    asked = _group_queries(queries)
    parts = _hold_out(asked, seed, before)
    development, gate = (frozenset(id for one in part for id in one.ids) for part in parts)
    train = frozenset(query.id for query in queries) - development - gate
    trained = {d for one in asked if not train.isdisjoint(one.ids) for d in one.documents}
    seen = trained | before.documents
    known = frozenset(id for part in parts for one in part if one.documents & seen for id in one.ids)
    return Division(train, development, gate, known)


def _hold_out(asked: Sequence[_Asked], seed: int, before: Before) -> tuple[list[_Asked], list[_Asked]]:
    free = {one.text: one for one in asked if before.queries.isdisjoint(one.ids)}
    size = min(choose_held_out_size(_count(asked)), _count(free.values()) // 2)
    components = _shuffle(_find_components(asked), lambda some: some[0].text, seed)
    whole = [some for some in components if all(one.text in free for one in some)]
    unseen = [some for some in whole if all(before.documents.isdisjoint(one.documents) for one in some)]
    parts: tuple[list[_Asked], list[_Asked]] = ([], [])
    for part in parts:
        unseen = _move_components(unseen, part, round(size * UNSEEN_SHARE))
    moved = {one.text for part in parts for one in part}
    rest = [one for one in asked if one.text not in moved]
    moved |= _draw_known(_shuffle(rest, lambda one: one.text, seed), parts, size, free, before.documents)
    left = [some for some in whole if moved.isdisjoint(one.text for one in some)]
    for part in parts:
        left = _move_components(left, part, size)
    return parts


def choose_held_out_size(queries: int) -> int:
    """Chooses how many queries each held-out part should have."""
    return max(round(SHARE * queries), min(LEAST, queries // 4))


def _group_queries(queries: Sequence[JudgedQuery]) -> list[_Asked]:
    """Groups the queries that have a relevant document, by text, in its order."""
    ids: dict[str, list[str]] = defaultdict(list)
    documents: dict[str, set[str]] = defaultdict(set)
    for query in queries:
        relevant = {id for id, grade in query.judgments.items() if grade > 0}
        if relevant:
            text = make_question_key(query.text)
            ids[text].append(query.id)
            documents[text] |= relevant
    return [_Asked(text, tuple(sorted(ids[text])), frozenset(documents[text])) for text in sorted(ids)]


def _find_components(asked: Sequence[_Asked]) -> list[list[_Asked]]:
    """Finds the components of the graph of queries and documents; each in the order of ``asked``."""
    parent: dict[str, str] = {}

    def find_root(document: str) -> str:
        while (above := parent.setdefault(document, document)) != document:
            parent[document] = document = parent[above]
        return document

    for one in asked:
        first, *others = sorted(one.documents)
        for other in others:
            parent[find_root(other)] = find_root(first)
    found: dict[str, list[_Asked]] = defaultdict(list)
    for one in asked:
        found[find_root(min(one.documents))].append(one)
    return list(found.values())


def _shuffle(items: Iterable[Item], name: Callable[[Item], str], seed: int) -> list[Item]:
    def hash_item(item: Item) -> bytes:
        return hashlib.blake2b(f"{seed}\0{name(item)}".encode("utf-8", "surrogatepass")).digest()

    return sorted(items, key=hash_item)


def _move_components(components: Sequence[list[_Asked]], part: list[_Asked], size: int) -> list[list[_Asked]]:
    """Adds those to ``part`` with which it has at most ``size`` queries; returns the others."""
    others: list[list[_Asked]] = []
    room = size - _count(part)
    for component in components:
        if (more := _count(component)) <= room:
            part += component
            room -= more
        else:
            others.append(component)
    return others


def _draw_known(
    rest: Sequence[_Asked],
    parts: Sequence[list[_Asked]],
    size: int,
    free: Collection[str],
    seen: Collection[str],
) -> set[str]:
    """Adds single queries to whichever part has fewer, while one has under ``size``; returns their texts.

    Each keeps a document that another query is trained with, so that it stays known whatever is drawn later.

    Args:
        free: texts of those that may be drawn.
        seen: documents that were trained with before.
    """
    left = Counter(document for one in rest for document in one.documents) + Counter(seen)
    kept: set[str] = set()
    drawn: set[str] = set()
    sizes = [_count(part) for part in parts]
    for one in (one for one in rest if one.text in free):
        place = sizes.index(min(sizes))
        if sizes[place] + len(one.ids) > size:
            continue
        trained = {document for document in one.documents if left[document] > 1}
        if not trained or (one.documents - trained) & kept:
            continue
        parts[place].append(one)
        sizes[place] += len(one.ids)
        drawn.add(one.text)
        left.subtract(one.documents)
        kept.add(max(trained, key=lambda document: (left[document], document)))
    return drawn


def _count(some: Iterable[_Asked]) -> int:
    return sum(len(one.ids) for one in some)
