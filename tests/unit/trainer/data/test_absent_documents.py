"""What judgments name and the collection lacks is counted and named in reports."""

from collections.abc import Mapping, Sequence

from quarry.mining.spec import JudgedQuery
from quarry.training.spec import EvaluationReport
from quarry_trainer.data.absent_documents import add_absent, find_absent_documents

QUERIES = [
    JudgedQuery(id="q", text="gout", judgments={"here": 1, "gone": 2, "judged bad, and gone": 0}),
    JudgedQuery(id="r", text="flu", judgments={"gone": 1, "untitled": 1}),
]


def read_titles(ids: Sequence[str]) -> Mapping[str, str]:
    titles = {"here": "Gout", "untitled": ""}
    return {id: titles[id] for id in ids if id in titles}


def test_relevant_documents_that_are_not_there_are_found_once() -> None:
    assert find_absent_documents(QUERIES, read_titles) == ("gone",)


def test_a_report_counts_and_names_them() -> None:
    report = EvaluationReport(verdict="IMPROVED", advice=("serve it",))
    assert add_absent(report, (), QUERIES) == report
    told = add_absent(report, ("gone",), QUERIES)
    assert told.details["absent"] == {"count": 1, "of": 3, "examples": ["gone"]}
    assert told.advice[0] == "serve it"
    assert "1 of 3 documents" in told.advice[1] and "gone" in told.advice[1]
