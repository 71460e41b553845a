"""Checks the rows of a file of examples: what is broken refuses the file, what contradicts is dropped."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.questions import has_words, make_question_key
from quarry_trainer.data.drop_reasons import Dropped, DropReason
from quarry_trainer.data.example_files import TEXTS, Columns

MOST_CONTRADICTED = 0.1
"""Of the rows. A file with more of them was labelled by mistake, and the rest of it cannot be trusted."""
SHOWN_CHARACTERS = 80
MOST_WEIGHT = 1e12
"""Weights count relative to each other, so no file needs larger ones, and sums of larger ones overflow."""


class BadExamplesError(QuarryError):
    """Nothing can be learned from the examples: a verdict, not a failure of the job."""


def check_values(columns: Columns) -> NDArray[np.float64]:
    """Checks values and returns the weights, float64.

    Raises:
        BadExamplesError: a text, a label or a weight is none, a query id has several texts, or no row is a
            negative.
    """
    for name in TEXTS:
        for value in _collect_distinct(columns[name], name):
            if not isinstance(value, str):
                raise BadExamplesError(f"{name} is {_quote(value)} in a row, not a text")
    labels = _collect_distinct(columns["label"], "label")
    for value in labels:
        if isinstance(value, str) or value not in (0, 1):
            raise BadExamplesError(
                f"a label is {_quote(value)}, not 0 (a negative) or 1 (relevant after all)"
            )
    if 0 not in labels:
        raise BadExamplesError("no row is a negative: every label is 1, and one class alone teaches nothing")
    if len(set(zip(columns["query_id"], columns["query"], strict=True))) > len(set(columns["query_id"])):
        raise BadExamplesError("a query id has several texts")
    return _check_weights(columns["weight"])


def choose_rows(columns: Columns, dropped: Dropped) -> list[int]:
    """Chooses the places of the rows that are learned from, in their order; the others are counted in
    ``dropped``.

    A negative of a query that is relevant in another row of the same question (``make_question_key``) is
    dropped: one of the two rows is wrong, and a positive is more likely to be looked at. The second of two
    equal rows is dropped, too, and so are rows whose query has no word, and rows of label 1 that name their
    positive twice.

    Raises:
        BadExamplesError: ``MOST_CONTRADICTED`` of the rows contradict others, or no row is left.
    """
    keys = {text: make_question_key(text) for text in set(columns["query"])}
    relevant = _find_relevant(columns, keys)
    kept: list[int] = []
    seen: set[tuple[str, str, str, int]] = set()
    for place, (query_id, query, positive, negative, label) in enumerate(_iterate_rows(columns)):
        row = (query_id, positive, negative, int(label))
        if not has_words(query):
            dropped.add(DropReason.QUERY_WITHOUT_TEXT, query_id)
        elif not label and negative in relevant[keys[query]]:
            dropped.add(DropReason.CONTRADICTED, query_id, negative)
        elif negative == positive:
            dropped.add(DropReason.OWN_POSITIVE, query_id, negative)
        elif row in seen:
            dropped.add(DropReason.REPEATED, query_id, negative)
        else:
            seen.add(row)
            kept.append(place)
    _check_left(len(columns["label"]), kept, dropped)
    return kept


def _check_left(rows: int, kept: Sequence[int], dropped: Dropped) -> None:
    contradicted = dropped[DropReason.CONTRADICTED]
    if contradicted > MOST_CONTRADICTED * rows:
        raise BadExamplesError(
            f"in {contradicted:,} of {rows:,} rows a document is positive and negative of one query: "
            + "; ".join(dropped.describe())
        )
    if not kept:
        raise BadExamplesError(f"no row is left to learn from: {'; '.join(dropped.describe())}")


def _find_relevant(columns: Columns, keys: Mapping[str, str]) -> Mapping[str, set[str]]:
    """Finds, by question, the documents that are relevant to it in some row."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, query, positive, negative, label in _iterate_rows(columns):
        found[keys[query]].add(positive)
        if label:
            found[keys[query]].add(negative)
    return found


def _iterate_rows(columns: Columns) -> Iterable[tuple[str, str, str, str, float]]:
    return zip(*(columns[name] for name in (*TEXTS, "label")), strict=True)


def _check_weights(values: Sequence[object]) -> NDArray[np.float64]:
    try:
        if any(isinstance(value, str) for value in values):
            raise ValueError
        weights = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadExamplesError("a weight is not a number") from None
    if not np.isfinite(weights).all() or (weights <= 0).any():
        raise BadExamplesError("a weight is not a number over 0")
    if weights.max() > MOST_WEIGHT:
        raise BadExamplesError(
            f"a weight is over {MOST_WEIGHT:g}: weights are relative, so give smaller ones"
        )
    return weights


def _collect_distinct(values: Sequence[object], name: str) -> set[object]:
    try:
        return set(values)
    except TypeError:
        raise BadExamplesError(f"{name} holds lists or the like, not single values") from None


def _quote(value: object) -> str:
    return repr(value)[:SHOWN_CHARACTERS]
