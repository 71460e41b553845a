"""`quarry judgments import`: what other tools export becomes files that every command reads."""

import json

import pytest

from quarry_cli.inputs.judgments import read_judged

QUEPID = """query,docid,rating
star wars,11,3
star wars,12,0.0
"shoes, red",p-1,1.0
nobody rated this
star wars,13,
 -minus,p-2,1
"""
UBI = {
    "name": "Imported Judgments",
    "type": "IMPORT_JUDGMENT",
    "judgmentRatings": [
        {
            "query": "red dress",
            "ratings": [{"docId": "B07", "rating": "3.000"}, {"docId": "B08", "rating": 0}],
        },
        {"query": "laptop", "ratings": [{"docId": "doc1", "rating": 1}]},
    ],
}


@pytest.fixture
def take(cli, tmp_path):
    """Imports a text, and gives what it ended with and what was written."""

    def run(format, text, *options):
        (tmp_path / "export").write_text(text if isinstance(text, str) else json.dumps(text))
        written = ["--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.tsv"]
        ended = cli("judgments", "import", tmp_path / "export", "--format", format, *written, *options)
        if ended.status:
            return ended, None, None
        texts, qrels, _ = read_judged(tmp_path / "q.jsonl", tmp_path / "r.tsv")
        return ended, texts, qrels

    return run


def test_a_case_of_quepid_becomes_queries_and_judgments(take):
    ended, texts, qrels = take("quepid", QUEPID)
    assert texts == {"q1": "star wars", "q2": "shoes, red", "q3": "-minus"}
    assert qrels == {"q1": {"11": 3, "12": 0}, "q2": {"p-1": 1}, "q3": {"p-2": 1}}
    assert "2 lines have no rating" in ended.err
    assert "3 queries in" in ended.out
    assert take("quepid", QUEPID, "--json")[0].json == {
        "queries": 3, "judgments": 4, "relevant": 3, "unrated": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "export",
    [
        UBI,
        json.dumps(UBI, indent=2),
        {"hits": {"total": 1, "hits": [{"_id": "1", "_source": UBI}]}},
        json.dumps({"_index": "judgment", "_source": UBI}) + "\n",
        "".join(json.dumps({"judgmentRatings": [one]}) + "\n" for one in UBI["judgmentRatings"]),
    ],
    ids=["as imported", "on several lines", "an answer", "a dump", "one a line"],
)
def test_judgments_of_opensearch_are_read_in_every_form_that_it_gives(take, export):
    _, texts, qrels = take("ubi", export)
    assert texts == {"q1": "red dress", "q2": "laptop"}
    assert qrels == {"q1": {"B07": 3, "B08": 0}, "q2": {"doc1": 1}}


def test_ratings_from_clicks_are_no_grades_until_someone_says_from_where(take):
    clicks = {
        "judgmentRatings": [
            {"query": "tv", "ratings": [{"docId": "a", "rating": "1.25"}, {"docId": "b", "rating": 0.4}]}
        ]
    }
    ended, _, _ = take("ubi", clicks)
    assert ended.status == 1
    assert "the grade '1.25' is no whole number" in ended.err
    assert "--relevant-from" in ended.err
    assert take("ubi", clicks, "--relevant-from", "1")[2] == {"q1": {"a": 1, "b": 0}}
    ended, _, _ = take("ubi", clicks, "--relevant-from", "2")
    assert "no rating makes a document relevant" in ended.err


@pytest.mark.parametrize(
    ("format", "text", "said"),
    [
        ("quepid", "", "has the columns ''"),
        (
            "quepid",
            "Query Text,Doc ID,Doc Position\na,b,1\n",
            "not query, docid, rating -- export the case's",
        ),
        ("quepid", "query,docid,rating\nred, green,d,1\n", ":2: has 4 columns"),
        ("quepid", "query,docid,rating\nred,d,good\n", ":2: the grade 'good' is no number"),
        ("quepid", "query,docid,rating\nred,d,1\nred,d,2\n", ":3: rates document d for 'red' as 2, and"),
        ("quepid", "query,docid,rating\nred,,\n", "holds no rating"),
        ("quepid", "query,docid,rating\nred,a,1\nred,,2\n", ":3: the rating '2' has no document"),
        ("quepid", "query,docid,rating\nred,a,1\n,b,0\n", ":3: the rating '0' has no query"),
        ("quepid", "query,docid,rating\nred,a\tb,1\n", "no file of judgments can hold the document id"),
        ("ubi", "{}", "holds no object with judgmentRatings"),
        ("ubi", "not json", ":1: is not JSON"),
        ("ubi", '{"judgmentRatings": [{"query": "a"}]}', "has no query or no ratings"),
        ("ubi", '{"judgmentRatings": [{"query": "a", "ratings": [{"docId": "d"}]}]}', "has no docId or no"),
        ("ubi", '{"judgmentRatings": []}', "holds no rating"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_nothing_is_written(take, tmp_path, format, text, said):
    ended, _, _ = take(format, text)
    assert ended.status == 1
    assert said in ended.err
    assert not (tmp_path / "q.jsonl").exists()
    assert take(format, text, "--relevant-from", "1")[0].status == 1


def test_no_file_is_written_over_another_one_of_the_command(cli, tmp_path):
    (tmp_path / "export").write_text(QUEPID)
    (tmp_path / "link").symlink_to(tmp_path / "export")
    (tmp_path / "hard").hardlink_to(tmp_path / "export")
    before = sorted(tmp_path.iterdir())
    for queries, qrels in (
        ("export", "r.tsv"),
        ("q.jsonl", "export"),
        ("q.jsonl", "link"),
        ("hard", "r.tsv"),
        ("new", "../" + tmp_path.name + "/new"),
    ):
        given = ["--queries", tmp_path / queries, "--qrels", tmp_path / qrels]
        ended = cli("judgments", "import", tmp_path / "export", "--format", "quepid", *given)
        assert ended.status == 1
        assert "are one file" in ended.err
    assert (tmp_path / "export").read_text() == QUEPID
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_bound_that_is_no_number_makes_no_grades(take, tmp_path, value):
    ended, _, _ = take("quepid", QUEPID, "--relevant-from", value)
    assert ended.status == 1
    assert f"--relevant-from {value}: is no finite number" in ended.err
    assert not (tmp_path / "q.jsonl").exists()


@pytest.mark.parametrize("total", [{"value": 12, "relation": "eq"}, 12])
def test_an_answer_that_lists_a_part_of_what_it_found_is_not_taken_for_the_whole(take, total):
    hits = [{"_id": "1", "_source": UBI}]
    ended, texts, _ = take("ubi", {"hits": {"total": total, "hits": hits}})
    assert len(texts) == 2
    assert "export:1: lists 1 of 12 lists of judgments, and the others are not read" in ended.err
    whole = {"value": 1, "relation": "eq"}
    assert "not read" not in take("ubi", {"hits": {"total": whole, "hits": hits}})[0].err


def test_one_of_a_kind_is_written_in_the_singular(take):
    ended, _, _ = take("quepid", "query,docid,rating\nred,a,1\nblue,,\n")
    assert "1 line has no rating and is left out" in ended.err
    assert ended.out.startswith("1 query in ")
    assert "1 judgment in " in ended.out
