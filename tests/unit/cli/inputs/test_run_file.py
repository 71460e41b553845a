"""Run files in TREC's format."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry_cli.failures import CliError
from quarry_cli.inputs.run_file import read_run, write_run

ids = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)


@settings(max_examples=30)
@given(run=st.dictionaries(ids, st.lists(ids, min_size=1, max_size=12, unique=True), min_size=1, max_size=4))
def test_a_run_that_is_written_is_read_as_it_was(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "a.run"
    write_run(path, run, "tag")
    assert read_run(path) == run


def test_scores_order_and_ranks_decide_between_equal_ones(tmp_path):
    (tmp_path / "r").write_text(
        "q1 Q0 a 1 0.5 x\nq1 Q0 b 2 1.5 x\nq1\tQ0\td\t4\t-1e3\tx\n\nq1 Q0 c 3 0.5 x\nq2 0 a 0 7 x\n"
    )
    assert read_run(tmp_path / "r") == {"q1": ["b", "a", "c", "d"], "q2": ["a"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no run"),
        ("q1 0 a 1\n", ":1: has the columns 'q1 | 0 | a | 1', not query, Q0, document, rank, score, tag"),
        ("q1 Q0 a 1 high x\n", ":1: the score 'high' is no number"),
        ("q1 Q0 a 1 nan x\n", ":1: the score 'nan' is no number"),
        ("q1 Q0 a first 1 x\n", ":1: the rank 'first' is no number"),
        ("q1 Q0 a 1 2 x\nq1 Q0 a 2 1 x\n", ":2: query q1 has document a twice"),
        ("q1 Q0 a 1 2 x\nq1 Q0 a 1 2 x\n", ":2: query q1 has document a twice"),
    ],
)
def test_a_file_that_is_no_run_is_an_error(tmp_path, text, said):
    (tmp_path / "r").write_text(text)
    with pytest.raises(CliError) as caught:
        read_run(tmp_path / "r")
    assert said in str(caught.value)


def test_an_id_that_the_format_cannot_hold_is_named(tmp_path):
    with pytest.raises(CliError, match="cannot hold the id 'a b', which has white space"):
        write_run(tmp_path / "r", {"q1": ["a b"]}, "x")
    assert not (tmp_path / "r").exists()
