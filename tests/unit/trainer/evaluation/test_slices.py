"""Groups of queries."""

import numpy as np
from tests.unit.trainer.ranked import ranked_query

from quarry_trainer.data.live import RankedQuery
from quarry_trainer.evaluation.slices import make_slices

QUERIES = [
    RankedQuery(
        "a", "one", ("x", "y"), np.array([1.0, 0.5]), ("w " * 49, "w " * 200), (("bm25",), ("dense",))
    ),
    RankedQuery(
        "b", "one two three", ("x", "y"), np.array([1.0, 0.5]), ("w " * 50, ""), (("bm25", "dense"), ())
    ),
    ranked_query("c", ["x"], text="1 2 3 4 5 6 7"),
    ranked_query("d", []),
]
QRELS = {"a": {"x": 1, "y": 0}, "b": {"x": 2}, "c": {"elsewhere": 1}, "d": {"x": 1}}


def test_queries_are_grouped_by_what_they_are_and_how_they_are_answered() -> None:
    assert make_slices(QUERIES, QRELS, {"a": True, "b": False}) == {
        "known": {"a"},
        "unseen": {"b"},
        "query: 1 to 2 words": {"a", "d"},
        "query: 3 to 6 words": {"b"},
        "query: 7 or more words": {"c"},
        "passage: 0 to 49 words": {"a"},
        "passage: 50 to 149 words": {"b"},
        "found by bm25": {"a"},
        "found by bm25 and dense": {"b"},
        "found by none": {"c", "d"},
    }


def test_the_head_makes_half_of_the_traffic() -> None:
    frequency = {"a": 10, "b": 6, "c": 5}
    groups = make_slices(QUERIES, QRELS, frequency=frequency)
    assert groups["head"] == {"a", "b"}
    assert groups["tail"] == {"c", "d"}
    alike = make_slices(QUERIES, QRELS, frequency=dict.fromkeys("dcba", 1))
    assert alike["head"] == {"a", "b"}
