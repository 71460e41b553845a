"""`quarry evaluate`: figures worked by hand, from the server's rankings to the JSON."""

import gzip
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.v1 import collection_service_pb2 as pb
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.topics import read_queries
from quarry_cli.views.figures import bootstrap_interval, measure_figures

QRELS = "query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb\t1\nq1\tc\t0\nq2\ta\t1\n"
QUERIES = [("q1", "one"), ("q2", "two"), ("q3", "unjudged")]


@pytest.fixture
def judged(quarry, tmp_path):
    """A collection that holds a, b and c, and the arguments that evaluate it."""
    quarry.collections["faq"] = pb.Collection(name="faq")
    for id in "abc":
        quarry.documents["faq", id] = None
    quarry.runs = {
        "bm25": {"one": ["c", "b", "a"], "two": []},
        "dense": {"one": ["a", "b"], "two": ["b", "c", "x", "a"]},
        "fused": {"one": ["a", "c", "b"], "two": ["a"]},
        "reranked": {"one": ["a", "b", "c"], "two": ["b", "a"]},
    }
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in QUERIES))
    (tmp_path / "r.tsv").write_text(QRELS)
    return ["evaluate", "faq", "--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.tsv"]


def test_figures_are_those_worked_by_hand(judged, cli):
    ended = cli(*judged, "--json")
    assert ended.status == 0
    # q1 has gains a: 2, b: 1, so an ideal DCG of 2 + 1 / log2(3); q2 has a: 1, ideal 1.
    ideal = 2 + 1 / math.log2(3)
    bm25 = (1 / math.log2(3) + 2 / math.log2(4)) / ideal
    dense = 1 / math.log2(5)
    fused = (2 + 1 / math.log2(4)) / ideal
    expected = {
        "bm25": {"nDCG@10": bm25 / 2, "RR@3": 0.25, "RR@10": 0.25, "R@100": 0.5},
        "dense": {"nDCG@10": (1 + dense) / 2, "RR@3": 0.5, "RR@10": 0.625, "R@100": 1.0},
        "fused": {"nDCG@10": (fused + 1) / 2, "RR@3": 1.0, "RR@10": 1.0, "R@100": 1.0},
    }
    assert list(ended.json) == [*expected, "intervals", "judged_at_10", "counts"]
    for run, means in expected.items():
        assert ended.json[run] == pytest.approx(means), run


def test_a_collection_with_a_reranker_is_measured_with_it_too(judged, quarry, cli):
    quarry.collections["faq"].reranker = "tiny"
    ended = cli(*judged, "--json")
    assert list(ended.json)[:4] == ["bm25", "dense", "fused", "reranked"]
    assert ended.json["reranked"]["RR@10"] == pytest.approx(0.75)


def test_any_version_is_measured_in_place_of_the_collections_reranker(judged, quarry, cli):
    ended = cli(*judged, "--json", "--model", "faq@3")
    assert list(ended.json)[:4] == ["bm25", "dense", "fused", "reranked"]
    assert ended.json["reranked"]["RR@10"] == pytest.approx(0.75)
    asked = [r.rerank for r in quarry.requests if hasattr(r, "page_size") and not r.rerank.disabled]
    assert {rerank.model for rerank in asked} == {"faq@3"}
    assert len(asked) == 2


def test_a_cascade_is_measured_as_what_searches_would_give(judged, quarry, cli):
    ended = cli(*judged, "--json", "--model", "faq@3", "--cascade", "small:200", "--cascade", ":20")
    assert list(ended.json)[:4] == ["bm25", "dense", "fused", "reranked"]
    asked = [r.rerank for r in quarry.requests if hasattr(r, "page_size") and not r.rerank.disabled]
    assert len(asked) == 2
    for rerank in asked:
        assert rerank.model == "faq@3"
        assert [(stage.model, stage.depth) for stage in rerank.cascade] == [("small", 200), ("", 20)]


def test_only_judged_queries_are_run_and_searches_must_be_complete(judged, quarry, cli):
    cli(*judged)
    searches = [r for r in quarry.requests if hasattr(r, "page_size")]
    assert sorted(r.query for r in searches) == ["one", "two"]
    assert all(r.require_complete and r.page_size == 100 and r.rerank.disabled for r in searches)


def test_the_table_names_the_queries_and_the_interval(judged, cli):
    ended = cli(*judged)
    assert ended.status == 0
    assert "nDCG@10" in ended.out
    assert "95 % interval" in ended.out
    assert "2 queries" in ended.err


def test_judged_documents_that_the_collection_lacks_are_counted(judged, quarry, cli):
    del quarry.documents["faq", "b"]
    quarry.runs = {"bm25": {}, "fused": {}}
    quarry.documents["faq", "a"] = None
    ended = cli(*judged, "--json")
    assert ended.status == 0
    assert "the collection lacks 1 document that is judged relevant: b" in ended.err


def test_judgments_of_another_collection_are_an_error_before_anything_is_asked(judged, quarry, cli):
    quarry.documents.clear()
    ended = cli(*judged, "--json")
    assert (ended.status, ended.out) == (1, "")
    assert "0 of 3 judged documents are in this collection (a, b, c)" in ended.err
    assert not [request for request in quarry.requests if hasattr(request, "page_size")]


def test_judged_documents_that_are_partly_unknown_are_said_and_counted(judged, quarry, cli):
    for id in "bc":
        del quarry.documents["faq", id]
    quarry.runs = {"bm25": {}, "fused": {"one": ["a"]}}
    ended = cli(*judged, "--json")
    assert "2 of 3 judged documents are not in this collection; the collection lacks 1 document " in ended.err
    assert ended.json["counts"] == {
        "queries": 2, "judgments": 4, "judged_documents": 3, "relevant_documents": 2, "absent_documents": 2,
    }  # fmt: skip


def test_the_json_says_how_sure_the_figures_are_and_how_much_was_judged(judged, cli):
    found = cli(*judged, "--json").json
    for run in ("bm25", "dense", "fused"):
        assert list(found["intervals"][run]) == ["nDCG@10", "RR@3", "RR@10", "R@100"]
        for measure, (low, high) in found["intervals"][run].items():
            assert low <= found[run][measure] <= high
    # Of dense's hits a and b are judged for q1; of b, c, x and a only a is for q2.
    assert found["judged_at_10"] == {"bm25": 1.0, "dense": (1 + 1 / 4) / 2, "fused": 1.0}


def test_runs_are_written_and_measured_as_they_were(judged, quarry, cli, tmp_path):
    quarry.collections["faq"].reranker = "tiny"
    given = ["--run-out", tmp_path / "best.run", "--run-out", f"dense={tmp_path / 'dense.run'}"]
    found = cli(*judged, *given, "--json").json
    first = "q1 Q0 a 1 3 quarry-reranked"
    assert (tmp_path / "best.run").read_text().splitlines()[0] == first
    qrels = ["--qrels", tmp_path / "r.tsv"]
    for file, name in (("best.run", "reranked"), ("dense.run", "dense")):
        quarry.requests.clear()
        again = cli("evaluate", *qrels, "--run", tmp_path / file, "--json").json
        assert again[str(tmp_path / file)] == found[name]
        assert again["intervals"][str(tmp_path / file)] == found["intervals"][name]
        assert not quarry.requests
    beside = cli(*judged, "--run", tmp_path / "dense.run", "--json").json
    assert beside[str(tmp_path / "dense.run")] == beside["dense"]


def test_a_file_that_is_named_like_an_arm_does_not_take_its_row(judged, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without = cli(*judged, "--json").json
    for name in ("bm25", "fused", "counts"):
        (tmp_path / name).write_text("q1 Q0 c 1 1 x\n")
        both = cli(*judged, "--run", name, "--json").json
        assert both[name] == without[name]
        assert both[f"run:{name}"]["nDCG@10"] == 0
    alone = cli("evaluate", "--qrels", "r.tsv", "--run", "counts", "--json").json
    assert (alone["counts"]["queries"], alone["run:counts"]["R@100"]) == (2, 0)


def test_a_run_that_is_not_there_is_not_written(judged, cli, tmp_path):
    ended = cli(*judged, "--run-out", f"reranked={tmp_path / 'r.run'}")
    assert ended.status == 1
    assert "there is no run reranked -- there are bm25, dense, fused" in ended.err
    assert not (tmp_path / "r.run").exists()


@pytest.mark.parametrize("name", ["bm52", "dense", "reranked", ""])
def test_a_run_that_this_evaluation_does_not_make_is_an_error_before_it_searches(
    judged, quarry, cli, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    del quarry.runs["dense"]
    ended = cli(*judged, "--run-out", f"{name}=d.run")
    assert ended.status == 1
    assert f"./{name}=d.run is a file" in ended.err
    assert not [request for request in quarry.requests if hasattr(request, "page_size")]
    assert not list(tmp_path.glob("*.run"))
    assert cli(*judged, "--run-out", f"./{name}=d.run").status == 0
    assert (tmp_path / f"{name}=d.run").read_text().endswith(" quarry-fused\n")


def test_options_that_lack_a_part_say_which(judged, cli, tmp_path):
    qrels = judged[-2:]
    (tmp_path / "other.run").write_text("q9 Q0 a 1 1 x\n")
    for arguments, said in (
        (["evaluate", *qrels], "there is nothing to measure"),
        (["evaluate", "faq", *qrels], "--queries says what to ask"),
        (
            ["evaluate", *qrels, "--run", tmp_path / "other.run"],
            "other.run: has none of the 2 judged queries",
        ),
        (
            ["evaluate", *qrels, "--run", tmp_path / "other.run", "--run-out", "x"],
            "--run-out, --model and --cascade are for a collection",
        ),
    ):
        ended = cli(*arguments)
        assert ended.status == 1
        assert said in ended.err


def test_an_arm_that_fails_is_an_error_not_a_low_figure(judged, quarry, cli):
    quarry.failing_arm = "dense"
    ended = cli(*judged, "--json")
    assert (ended.status, ended.out) == (1, "")
    assert "the dense arm failed for query q1" in ended.err


def test_judged_queries_that_the_file_lacks_are_named_and_the_others_are_measured(judged, cli, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"_id": "q2", "text": "two"}\n')
    ended = cli(*judged, "--json")
    assert ended.status == 0
    assert "1 of 2 queries that are judged are missing: q1; the others are used" in ended.err
    (tmp_path / "r.tsv").write_text("q2\ta\t1\n")
    figures = cli(*judged, "--json").json
    assert ended.json == {**figures, "missing_queries": 1}, "the missing query does not count as zero"


def test_a_document_that_is_relevant_to_one_of_two_equal_questions_counts_for_both(judged, cli, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "One?"}\n')
    (tmp_path / "r.tsv").write_text("q1\ta\t1\nq2\ta\t0\nq2\tb\t0\n")
    ended = cli(*judged, "--json")
    assert ended.json["disputed_judgments"] == 1
    assert "1 document is judged relevant under one id of a question and not relevant under" in ended.err
    (tmp_path / "r.tsv").write_text("q1\ta\t1\nq2\ta\t1\nq2\tb\t0\n")
    agreed = cli(*judged, "--json").json
    assert ended.json == {**agreed, "disputed_judgments": 1}


def test_queries_without_a_word_are_missing_from_the_figures_too(judged, cli, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"_id": "q1", "text": "?"}\n{"_id": "q2", "text": "two"}\n')
    assert cli(*judged, "--json").json["missing_queries"] == 1


def test_a_file_that_lacks_all_judged_queries_is_an_error(judged, cli, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"_id": "q7", "text": "seven"}\n')
    ended = cli(*judged)
    assert ended.status == 1
    assert "2 of 2 queries that are judged are missing: q1, q2" in ended.err


def test_judgments_are_read_in_both_forms_packed_or_not(tmp_path):
    trec = "q1 0 a 2\nq1 0 b 1\nq1\t0\tc\t0\nq2 0 a 1\n"
    (tmp_path / "beir.tsv").write_text(QRELS)
    (tmp_path / "trec.qrels.gz").write_bytes(gzip.compress(trec.encode()))
    expected = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"a": 1}}
    assert read_qrels(tmp_path / "beir.tsv") == read_qrels(tmp_path / "trec.qrels.gz") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no judgments"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgments"),
        ("q1\ta\n", ":1: has the columns 'q1 | a', not query, document and grade"),
        ("q1 0 a 1 x\n", ":1: has the columns"),
        ("q1\t\t1\n", ":1: has the columns"),
        ("q1\ta\tx\n", ":1: the grade 'x' is no number"),
        ("q1\ta\tnan\n", ":1: the grade 'nan' is no number"),
        ("q1\ta\t1\nq1\tb\t0.5\n", ":2: the grade '0.5' is no whole number"),
        ("q1\ta\t1\nquery-id\tcorpus-id\tscore\n", ":2: the grade 'score' is no number"),
        ("q1\ta\t1_0\n", ":1: the grade '1_0' is no number"),
        ("q1\ta\t\u0661\n", ":1: the grade '\u0661' is no number"),
        ("q1\ta\t99999999999\n", ":1: the grade '99999999999' is no whole number"),
    ],
)
def test_a_file_that_holds_no_judgments_is_an_error(tmp_path, text, said):
    (tmp_path / "r.tsv").write_text(text)
    with pytest.raises(CliError, match=said):
        read_qrels(tmp_path / "r.tsv")


@pytest.mark.parametrize(
    "text",
    [
        "q1 d1 1\nq1 d2 0\n",
        "q1\td1\t1.0\nq1\td2\t0.0\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td1\t1\r\n\r\nq1\td2\t0\r\n",
        "Query_ID doc_id Relevance\nq1 d1 1\nq1 d2 0",
        "q1 0 d1 1\nq1 Q0 d2 0\n",
        "qid iter docno rel\nq1\t0\td1\t+1\nq1\t0\td2\t0\n",
        "query_id,doc_id,relevance\nq1,d1,1.0\nq1,d2,0\n",
    ],
)
def test_judgments_are_read_as_a_stranger_writes_them(tmp_path, text):
    (tmp_path / "r.tsv").write_bytes(text.encode())
    assert read_qrels(tmp_path / "r.tsv") == {"q1": {"d1": 1, "d2": 0}}


def test_two_grades_of_one_document_are_an_error_that_names_both_lines(tmp_path):
    (tmp_path / "r.tsv").write_text("q1 d1 1\nq2 d1 0\nq1 d1 0\n")
    said = r"r.tsv:3: gives document d1 the grade 0 for query q1, and line 1 gives it 1"
    with pytest.raises(CliError, match=said):
        read_qrels(tmp_path / "r.tsv")


def test_a_judgment_that_is_there_twice_is_named(tmp_path, capfd):
    (tmp_path / "r.tsv").write_text("q1 d1 1\nq1 d1 1.0\nq1 d2 1\n")
    assert read_qrels(tmp_path / "r.tsv") == {"q1": {"d1": 1, "d2": 1}}
    assert "1 line repeats an earlier judgment: 2" in capfd.readouterr().err


def test_queries_without_a_word_are_named_and_left_out_because_they_would_browse(tmp_path, capfd):
    (tmp_path / "q.jsonl").write_text(
        '{"_id": "q1", "text": " "}\n{"_id": "q2", "text": "?!"}\n{"id": 3, "query": "red"}\n'
    )
    assert read_queries(tmp_path / "q.jsonl", {"q1", "q2", "3"}) == {"3": "red"}
    assert "2 of 3 queries have no word in their text: q1, q2" in capfd.readouterr().err
    with pytest.raises(CliError, match="1 of 1 queries have no word"):
        read_queries(tmp_path / "q.jsonl", {"q1"})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"_id": "q1", "text": "one"}\n{"_id": "q1", "text": "two"}\n', ":2: query q1 has another text"),
        ('{"_id": null, "text": "one"}\n', ":1: is not a JSON object with _id and text"),
        ('{"_id": "q1", "text": 7}\n', ":1: is not a JSON object with _id and text"),
        ("[]\n", ":1: is not a JSON object with _id and text"),
        ("q1 one\n", ":1: 'q1 one' is no query"),
    ],
)
def test_a_line_that_is_no_query_is_an_error(tmp_path, lines, said):
    (tmp_path / "q.jsonl").write_text(lines)
    with pytest.raises(CliError, match=said):
        read_queries(tmp_path / "q.jsonl", {"q1"})


def test_a_judged_query_without_results_counts_zero():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}}
    assert measure_figures({"q1": ["a"]}, qrels).means == {
        "nDCG@10": 0.5,
        "RR@3": 0.5,
        "RR@10": 0.5,
        "R@100": 0.5,
    }


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_interval_holds_the_mean_and_lies_within_the_values(values):
    low, high = bootstrap_interval(values)
    mean = sum(values) / len(values)
    assert min(values) - 1e-9 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= max(values) + 1e-9


def test_the_interval_is_about_two_standard_errors_wide_on_each_side():
    values = [0.0, 1.0] * 200
    low, high = bootstrap_interval(values)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.006)


def test_a_calibrated_reranker_is_held_to_the_relevance_that_it_gives(judged, quarry, cli):
    quarry.relevance = {"a": 0.9, "b": 0.3}
    ended = cli(*judged, "--model", "faq@1", "--json")
    # Of q1 a and b are relevant, of q2 a: two hits at 0.9, both relevant, and two at 0.3, one relevant.
    assert ended.json["reranked"]["ECE@10"] == pytest.approx((2 * 0.1 + abs(2 * 0.3 - 1)) / 4)
    assert "ECE@10" not in ended.json["fused"]
    assert "off by 0.150 on average (ECE@10)" in cli(*judged, "--model", "faq@1").err
    quarry.relevance = {}
    assert "ECE@10" not in cli(*judged, "--model", "faq@1", "--json").json["reranked"]
