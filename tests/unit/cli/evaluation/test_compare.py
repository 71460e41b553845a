"""`quarry compare`: figures worked by hand."""

import math

import pytest

QRELS = "q1 0 a 1\nq1 0 b 0\nq2 0 a 1\nq3 0 c 1\nq4 0 d 1\n"
FIRST = {"q1": "ba", "q2": "a", "q3": "xc", "q4": "d"}
SECOND = {"q1": "ab", "q2": "a", "q3": "xyc"}
SECOND_AT_RANK_2 = 1 / math.log2(3)


def write(path, run):
    lines = [f"{q} Q0 {d} {r} {9 - r} tag\n" for q, ds in run.items() for r, d in enumerate(ds, 1)]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def files(tmp_path):
    (tmp_path / "r.tsv").write_text(QRELS)
    return [
        write(tmp_path / "a.run", FIRST),
        write(tmp_path / "b.run", SECOND),
        "--qrels",
        tmp_path / "r.tsv",
    ]


def test_differences_are_paired_and_those_who_win_and_lose_are_counted(files, cli):
    ended = cli("compare", *files, "--json")
    assert ended.status == 0
    found = ended.json["measures"]["nDCG@10"]
    first = (SECOND_AT_RANK_2 + 1 + SECOND_AT_RANK_2 + 1) / 4
    second = (1 + 1 + 0.5 + 0) / 4
    assert found["first"] == pytest.approx(first)
    assert found["second"] == pytest.approx(second)
    assert found["difference"] == pytest.approx(second - first)
    assert (found["better"], found["worse"], found["equal"]) == (1, 2, 1)
    low, high = found["interval"]
    assert low < second - first < high
    assert list(ended.json["measures"]) == ["nDCG@10", "RR@3", "RR@10", "R@100"]
    assert ended.json["lacking_queries"] == {"first": 0, "second": 1}
    assert ended.json["judged_at_10"]["first"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def test_the_queries_that_changed_most_are_named_those_that_lost_first(files, cli, tmp_path):
    (tmp_path / "q.tsv").write_text("q1\tone\nq2\ttwo\nq3\tthree\nq4\tfour\n")
    ended = cli("compare", *files, "--json", "--queries", tmp_path / "q.tsv")
    changed = ended.json["changed"]
    assert [(one["query_id"], one["text"]) for one in changed] == [
        ("q4", "four"),
        ("q3", "three"),
        ("q1", "one"),
    ]
    assert [round(one["difference"], 3) for one in changed] == [-1.0, -0.131, 0.369]
    shown = cli("compare", *files, "--queries", tmp_path / "q.tsv")
    assert "q4  four" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "b.run lacks 1 of 4 judged queries, which counts 0" in shown.err


def test_a_run_against_itself_differs_in_nothing(files, cli):
    found = cli("compare", files[0], files[0], *files[2:], "--json").json
    for one in found["measures"].values():
        assert (one["difference"], one["interval"], one["equal"]) == (0, [0, 0], 4)
    assert found["changed"] == []


def test_any_measure_of_ir_measures_can_be_asked_for(files, cli):
    found = cli("compare", *files, "--measure", "P@1", "--measure", "AP", "--json").json["measures"]
    assert list(found) == ["P@1", "AP"]
    assert (found["P@1"]["first"], found["P@1"]["second"]) == (0.5, 0.5)
    for wrong in ("nothing@10", "P@", "RBP"):
        ended = cli("compare", *files, "--measure", wrong, "--json")
        assert (ended.status, ended.out) == (1, "")


@pytest.mark.parametrize("wrong", ["nothing@10", "P@zz", "P@"])
def test_a_measure_that_is_none_is_said_with_examples(files, cli, wrong):
    ended = cli("compare", *files, "--measure", wrong)
    assert (ended.status, ended.out) == (1, "")
    assert f"--measure {wrong}: there is no such measure -- nDCG@10," in ended.err
    assert "ValueError" not in ended.err


@pytest.mark.parametrize("parameter", ["cutoff", "rel"])
@pytest.mark.parametrize("value", ["0", "2147483648", "99999999999999999999", "1.5", "'a'"])
@pytest.mark.parametrize("measure", ["P", "R", "AP"])
def test_a_number_that_trec_eval_cannot_take_is_refused_before_it_gets_there(
    files, cli, parameter, value, measure
):
    ended = cli("compare", *files, "--measure", f"{measure}({parameter}={value})")
    assert (ended.status, ended.out) == (1, "")
    assert f"{parameter} is a whole number, 1 to 2,147,483,647" in ended.err


@pytest.mark.parametrize("measure", ["P@0", "nDCG(max_rel=0)@5", "Accuracy@5", "RBP(p=2)", "alpha_nDCG@5"])
def test_what_ir_measures_cannot_compute_is_an_error_in_one_line(files, cli, measure):
    ended = cli("compare", *files, "--measure", measure)
    assert (ended.status, ended.out) == (1, "")
    assert measure.partition("@")[0].partition("(")[0] in ended.err.splitlines()[-1]


def test_the_highest_numbers_are_computed(files, cli):
    found = cli("compare", *files, "--measure", "R@2147483647", "--measure", "AP(rel=2)", "--json").json
    assert found["measures"]["R@2147483647"]["first"] == 1
    assert found["measures"]["AP(rel=2)"]["first"] == 0


def test_a_run_of_other_queries_is_an_error_not_a_zero(files, cli, tmp_path):
    other = write(tmp_path / "c.run", {"other": "a"})
    ended = cli("compare", files[0], other, *files[2:])
    assert ended.status == 1
    assert "c.run: has none of the 4 judged queries" in ended.err


def test_judgments_of_other_documents_are_an_error_not_zeros(cli, tmp_path):
    run = write(tmp_path / "a.run", {"q1": "ab"})
    qrels = tmp_path / "r.tsv"
    qrels.write_text("q1 0 doc-7 1\nq1 0 doc-8 0\n")
    for command in (["compare", run, run], ["evaluate", "--run", run]):
        ended = cli(*command, "--qrels", qrels, "--json")
        assert (ended.status, ended.out) == (1, "")
        assert "none of its 2 documents is in a run" in ended.err
        assert "judged is 'doc-7', found is 'a'" in ended.err
    other = write(tmp_path / "b.run", {"q1": ["doc-8"]})
    assert cli("compare", run, other, "--qrels", qrels).status == 0


def test_compare_and_evaluate_measure_one_run_on_the_same_judgments(cli, tmp_path):
    (tmp_path / "q.tsv").write_text("q1\tred shoes\nq2\tRed shoes?\nq3\tblue\n")
    (tmp_path / "r.tsv").write_text("q1 a 1\nq2 a 0\nq2 b 1\nq3 c 1\nq4 d 1\n")
    run = write(tmp_path / "qa.run", {"q1": "a", "q2": "ab", "q3": "c"})
    qrels, queries = ["--qrels", tmp_path / "r.tsv"], ["--queries", tmp_path / "q.tsv"]
    for given in (qrels, [*qrels, *queries]):
        compared = cli("compare", run, run, *given, "--json")
        evaluated = cli("evaluate", "--run", run, *given, "--json")
        figures = {name: one["first"] for name, one in compared.json["measures"].items()}
        assert figures == evaluated.json[str(run)]
        for ended in (compared, evaluated):
            assert ("without --queries, the judgments of one question" in ended.err) is (given == qrels)
    assert figures["nDCG@10"] == 1, "a counts for both, and q4 has no text"
    assert (compared.json["missing_queries"], compared.json["disputed_judgments"]) == (1, 1)
    assert compared.json["queries"] == 3


def test_queries_without_a_relevant_document_are_counted_and_nothing_else_is_an_error(cli, tmp_path):
    (tmp_path / "q.tsv").write_text("q1\tone\nq2\ttwo\n")
    run = write(tmp_path / "a.run", {"q1": "a", "q2": "a"})
    qrels = ["--qrels", tmp_path / "r.tsv"]
    for given in (qrels, [*qrels, "--queries", tmp_path / "q.tsv"]):
        for command in (["compare", run, run], ["evaluate", "--run", run]):
            (tmp_path / "r.tsv").write_text("q1 a 1\nq2 a 0\nq2 b -1\n")
            ended = cli(*command, *given, "--json")
            assert "r.tsv: 1 of 2 queries have no relevant document and count 0: q2" in ended.err
            assert ended.json["queries_without_relevant_documents"] == 1
            (tmp_path / "r.tsv").write_text("q1 a 0\nq2 a 0\n")
            ended = cli(*command, *given, "--json")
            assert (ended.status, ended.out) == (1, "")
            assert "2 of 2 queries have no relevant document" in ended.err
