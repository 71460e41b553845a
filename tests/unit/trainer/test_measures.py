"""Measures of an order, against figures worked by hand."""

from math import log2

import pytest

from quarry_trainer.measures import list_judged_queries, measure_per_query

QRELS = {
    "a": {"x": 1, "y": 1, "z": 0},
    "b": {"x": 2, "y": 1},
    "c": {"x": 1},
    "d": {"x": 0},
    "e": {},
    "f": {"x": 1, "y": -3},
}


def test_measures_are_as_worked_by_hand() -> None:
    orders = {
        "f": ["y", "x"],
        "b": ["y", "x"],
        "a": ["z", "x", "q"],
        "d": ["x"],
        "other": ["x"],
    }
    values = measure_per_query(orders, QRELS)
    assert list_judged_queries(QRELS) == ["a", "b", "c", "f"]
    missed = (1 / log2(3)) / (1 + 1 / log2(3))  # x at rank 2; y is not among the candidates
    swapped = (1 + 2 / log2(3)) / (2 + 1 / log2(3))
    assert values["nDCG@10"].tolist() == pytest.approx([missed, swapped, 0, 1 / log2(3)])
    assert values["RR@3"].tolist() == pytest.approx([0.5, 1, 0, 0.5])
    assert values["R@50"].tolist() == pytest.approx([0.5, 1, 0, 1])


def test_a_relevant_document_below_the_cut_counts_for_nothing() -> None:
    order = [f"d{n}" for n in range(60)]
    values = measure_per_query({"q": order}, {"q": {"d3": 1}})
    assert values["RR@3"] == [0]
    assert values["RR@10"] == [0.25]
    deep = measure_per_query({"q": order}, {"q": {"d10": 1, "d55": 1}})
    assert deep["nDCG@10"] == [0]
    assert deep["R@50"] == [0.5]


def test_without_a_judged_query_there_are_no_values() -> None:
    assert [len(values) for values in measure_per_query({"q": ["a"]}, {}).values()] == [0, 0, 0, 0]
