"""Groups of queries that a change may serve differently."""

from collections.abc import Callable, Mapping, Sequence

from quarry_trainer.data.live import RankedQuery
from quarry_trainer.measures import Qrels

ALL, KNOWN, UNSEEN = "all", "known", "unseen"
HEAD_SHARE = 0.5
"""Of the traffic, which the head has."""

Slices = Mapping[str, frozenset[str]]
"""Ids of the queries in each, by name."""


def make_slices(
    ranked: Sequence[RankedQuery],
    qrels: Qrels,
    known: Mapping[str, bool] | None = None,
    frequency: Mapping[str, int] | None = None,
) -> Slices:
    """Makes slices of the judged queries, without empty ones; ``all`` is none of them.

    ``known`` and ``unseen``: whether training saw a relevant document of the query. ``query: ...`` by words.
    ``passage: ...`` by words of the longest relevant passage among the candidates. ``found by ...``: which
    arms returned a relevant document; ``found by none``: it is not among the candidates, and no re-ranker
    can help. ``head`` and ``tail``: the most frequent queries, which make half of the traffic, and the rest.

    Args:
        known: by query id; queries that are not named are in neither.
        frequency: how often each query is asked, by id.
    """
    groups: dict[str, set[str]] = {}
    for query in ranked:
        for name in _list_names(query, qrels.get(query.query_id, {}), known or {}):
            groups.setdefault(name, set()).add(query.query_id)
    if frequency:
        head = _find_head(frequency)
        for query in ranked:
            name = "head" if query.query_id in head else "tail"
            groups.setdefault(name, set()).add(query.query_id)
    return {name: frozenset(ids) for name, ids in sorted(groups.items())}


def _list_names(query: RankedQuery, grades: Mapping[str, int], known: Mapping[str, bool]) -> list[str]:
    names = []
    if query.query_id in known:
        names.append(KNOWN if known[query.query_id] else UNSEEN)
    names.append(f"query: {_name_band(len(query.text.split()), _QUERY_WORDS)} words")
    relevant = [place for place, id in enumerate(query.documents) if grades.get(id, 0) > 0]
    arms = sorted({arm for place in relevant for arm in query.arms[place]})
    names.append(f"found by {' and '.join(arms) or 'none'}")
    if relevant:
        words = max(len(query.passages[place].split()) for place in relevant)
        names.append(f"passage: {_name_band(words, _PASSAGE_WORDS)} words")
    return names


_QUERY_WORDS = (1, 3, 7)
_PASSAGE_WORDS = (0, 50, 150)
"""The first number of each band."""


def _name_band(words: int, starts: Sequence[int]) -> str:
    at = sum(words >= start for start in starts[1:])
    if at == len(starts) - 1:
        return f"{starts[-1]} or more"
    return f"{starts[at]} to {starts[at + 1] - 1}"


def _find_head(frequency: Mapping[str, int]) -> set[str]:
    """Finds the queries, from the most frequent on, without which the others make less than their share."""
    by_frequency: Callable[[str], tuple[int, str]] = lambda id: (-frequency[id], id)  # noqa: E731
    head: set[str] = set()
    seen = 0
    for id in sorted(frequency, key=by_frequency):
        if seen >= HEAD_SHARE * sum(frequency.values()):
            break
        head.add(id)
        seen += frequency[id]
    return head
