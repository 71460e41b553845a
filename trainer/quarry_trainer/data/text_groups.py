"""Groups with the passages that a re-ranker reads, and the scores that the live first stage gives them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from quarry.questions import has_words, make_question_key
from quarry.ranking.fusion import round_fused
from quarry_trainer.data.dataset import Group, TextGroup
from quarry_trainer.data.drop_reasons import Dropped, DropReason
from quarry_trainer.data.live import PassagesOf, RankedQuery


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
