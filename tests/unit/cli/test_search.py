"""`quarry search`: the request is what was typed, and the answer is shown whole."""

import json

import pytest
from google.protobuf.json_format import ParseDict

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import search_service_pb2
from quarry_cli.console import replace_controls
from quarry_cli.views.snippets import write_best

ANSWER = {
    "search_id": "s1",
    "hits": [
        {
            "document": {
                "id": "d7",
                "fields": {
                    "headline": {"string_value": "Deleting [bold]cards[/bold] \x1b[31m"},
                    "text": {"string_value": "Open the card menu and delete it. " * 40},
                },
            },
            "rank": 1,
            "score": 0.75,
            "explanation": {
                "arms": [
                    {"arm": "bm25", "rank": 3, "score": 12.5, "contribution": 0.0625},
                    {"arm": "dense", "contribution": 0},
                ],
                "fused_rank": 2,
                "fused_score": 0.5,
                "rerank_score": 4.25,
                "truncated": True,
            },
        }
    ],
    "total": {"count": "12", "relation": "TOTAL_RELATION_LOWER_BOUND"},
    "degraded": [
        {"stage": "STAGE_ARM", "arm": "dense", "reason": "DEGRADATION_REASON_TIMEOUT", "detail": "0.2 s"}
    ],
    "timings": {"total": "0.012s", "bm25": "0.002s"},
    "reranker": "tiny",
}


@pytest.fixture
def faq(quarry):
    fields = [
        pb.SchemaField(name="headline", type=pb.SCHEMA_FIELD_TYPE_TEXT, is_title=True),
        pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT),
        pb.SchemaField(name="year", type=pb.SCHEMA_FIELD_TYPE_INTEGER),
        pb.SchemaField(name="tag", type=pb.SCHEMA_FIELD_TYPE_KEYWORD),
    ]
    quarry.collections["faq"] = pb.Collection(name="faq", schema=pb.Schema(fields=fields))
    quarry.response = ParseDict(ANSWER, search_service_pb2.SearchResponse())
    return quarry


def test_json_is_the_response_and_can_be_parsed_back(faq, cli):
    ended = cli("search", "faq", "delete a card", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ParseDict(ended.json, search_service_pb2.SearchResponse()) == faq.response
    assert ended.json["next_page_token"] == ""  # stable: fields are there when they are empty


def test_a_person_sees_rank_score_title_id_and_what_is_to_be_said(faq, cli):
    ended = cli("search", "faq", "delete a card")
    assert ended.status == 0
    first = ended.out.splitlines()[0]
    assert first.split() == ["1", "Deleting", "[bold]cards[/bold]", "�[31m", "0.7500", "d7"]
    assert "at least 12 documents match" in ended.out
    assert "12.0 ms (bm25 2.0 ms)" in ended.out
    assert "re-ranked by tiny" in ended.out
    assert "incomplete: dense: timeout (0.2 s)" in ended.out
    assert "\x1b" not in ended.out
    assert max(len(line.rstrip()) for line in ended.out.splitlines()) <= 100


def test_a_person_sees_how_many_hits_can_be_reached_and_what_limits_that(faq, cli):
    response, exact = faq.response, search_service_pb2.TOTAL_RELATION_EXACT
    response.total.MergeFrom(search_service_pb2.Total(count=2_500, relation=exact))
    response.found_by_meaning.MergeFrom(search_service_pb2.Total(count=38, relation=exact))
    limit = search_service_pb2.REACH_LIMIT_LIST_SIZE
    response.reach.MergeFrom(search_service_pb2.Reach(count=1_000, relation=exact, limit=limit))
    said = " ".join(cli("search", "faq", "fox").out.split())
    assert "2,500 documents match · 38 found by meaning · 1,000 can be paged to: a list ranks no more" in said
    response.ClearField("found_by_meaning")
    response.reach.limit = search_service_pb2.REACH_LIMIT_NONE
    assert "can be paged to" not in cli("search", "faq", "fox").out


def test_explain_shows_a_line_for_each_arm_and_the_rest_of_the_way(faq, cli):
    ended = cli("search", "faq", "delete a card", "--explain")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "bm25 rank 3 score 12.5000 adds 0.0625" in lines
    assert "dense rank - score - adds 0.0000" in lines
    assert "fused rank 2 score 0.5000 re-ranked 4.2500 (text cut)" in lines
    assert faq.requests[-1].explain


def test_what_merged_the_arms_and_what_each_counted_is_shown(faq, cli):
    assert "merged by" not in cli("search", "faq", "delete a card").out
    faq.response.ranking = "faq/ranking@2"
    for arm, weight in (("bm25", 0.4), ("dense", 0.6)):
        faq.response.weights.add(arm=arm, weight=weight)
    ended = cli("search", "faq", "delete a card", "--explain")
    assert "merged by faq/ranking@2" in " ".join(ended.out.split())
    assert "bm25 0.40, dense 0.60" in " ".join(ended.out.split())


def test_options_reach_the_request(faq, cli):
    filter = '{"exists": {"field": "year"}}'
    options = ["-k", 3, "--arm", "bm25", "--fusion", "rrf", "--rerank-depth", 9, "--reranker", "m"]
    cli("search", "faq", "q", *options, "--filter", filter, "--where", "year>=2020")
    request = faq.requests[-1]
    expected = {
        "collection": "faq",
        "query": "q",
        "page_size": 3,
        "arms": [{"name": "bm25"}],
        "fusion": {"rrf": {}},
        "rerank": {"depth": 9, "model": "m"},
        "context": {"surface": "command-line", "trial": True},
        "snippets": {"length": 300},
        "filter": {
            "all_of": {
                "filters": [
                    json.loads(filter),
                    {"range": {"field": "year", "gte": {"integer_value": 2020}}},
                ]
            }
        },
    }
    assert request == ParseDict(expected, search_service_pb2.SearchRequest())


def test_how_the_query_is_read_reaches_the_request(faq, cli):
    cli("search", "faq", "+q -r", "--advanced", "--typos")
    assert faq.requests[-1].syntax == search_service_pb2.QUERY_SYNTAX_ADVANCED
    assert faq.requests[-1].typo_tolerance


def test_a_cascade_is_shown_model_by_model(faq, cli):
    explained = faq.response.hits[0].explanation
    explained.rerankers.add(model="small", score=1.5)
    explained.rerankers.add(model="faq@2", score=4.25, truncated=True)
    faq.response.rerankers.extend(["small", "faq@2"])
    faq.response.degraded.add(
        stage=search_service_pb2.STAGE_RERANK,
        reason=search_service_pb2.DEGRADATION_REASON_REDUCED_DEPTH,
        model="faq@2",
    )
    ended = cli("search", "faq", "q", "--explain")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines.index("read by small: 1.5000") + 1 == lines.index("read by faq@2: 4.2500")
    assert "re-ranked by small, then faq@2" in ended.out
    assert "incomplete: rerank by faq@2: reduced depth" in ended.out


def test_a_cascade_reaches_the_request(faq, cli):
    cli("search", "faq", "q", "--cascade", "http://x:200", "--cascade", ":20")
    stages = [(stage.model, stage.depth) for stage in faq.requests[-1].rerank.cascade]
    assert stages == [("http://x", 200), ("", 20)]


def test_no_rerank_asks_for_the_fused_order(faq, cli):
    cli("search", "faq", "q", "--no-rerank")
    assert faq.requests[-1].rerank.disabled


@pytest.mark.parametrize(
    "query",
    ['"', "*", "AND OR NOT", "title:x", "[bold]", "a" * 9_000, "\\", "(", "", "é\u202e", "\x1b]0;x\x07"],
)
def test_any_query_is_sent_as_it_was_typed(faq, cli, query):
    ended = cli("search", "faq", "--", query)
    assert ended.status == 0
    assert faq.requests[-1].query == query


def test_a_search_without_hits_says_so(faq, cli):
    faq.response = search_service_pb2.SearchResponse()
    assert cli("search", "faq", "q").out.splitlines()[0] == "no hits"


@pytest.mark.parametrize(
    "options",
    [
        ["--filter", "{"],
        ["--filter", '{"equal": {}}'],
        ["--where", "yaer=1"],
        ["--where", "year=1 and"],
        ["-k", "0"],
        ["--facet", "year:soon"],
        ["--facet", "year:1..x"],
        ["--facet", "year:1..2,3"],
        ["--order-by", "year:down"],
        ["--cascade", "small"],
        ["--cascade", "small:"],
        ["--cascade", "small:-1"],
        ["--cascade", "small:9", "--cascade", ""],
        ["--server", "nowhere"],
    ],
)
def test_a_mistake_of_usage_ends_with_status_2(faq, cli, options):
    ended = cli("search", "faq", "q", *options)
    assert (ended.status, ended.out) == (2, "")
    assert "Traceback" not in ended.err


def test_control_characters_never_reach_the_terminal():
    assert replace_controls("a\x1b[2Jb\u202ec\nd\x9b") == "a�[2Jb�c d�"


def test_relevance_is_shown_and_bounds_a_search(faq, cli):
    faq.response.hits[0].relevance = 0.375
    ended = cli("search", "faq", "delete a card", "--min-relevance", "0.25")
    assert "relevant 38%" in ended.out
    assert faq.requests[-1].min_relevance == 0.25
    assert cli("search", "faq", "delete a card", "--json").json["hits"][0]["relevance"] == 0.375
    assert not faq.requests[-1].HasField("min_relevance")


def test_a_search_is_marked_as_one_of_the_command_line(faq, cli):
    for options in ([], ["--json"], ["--unlogged"]):
        cli("search", "faq", "q", *options)
        context = faq.requests[-1].context
        assert (context.surface, context.trial, context.simulated) == ("command-line", True, False)
        assert faq.requests[-1].unlogged == ("--unlogged" in options)


def test_conditions_are_joined_by_words(faq, cli):
    cli("search", "faq", "q", "--where", "year in (2020, 2021) or not exists(year)", "--where", "year<9")
    first, second = faq.requests[-1].filter.all_of.filters
    assert [one.WhichOneof("condition") for one in first.any_of.filters] == ["one_of", "none_of"]
    assert second.range.lt.integer_value == 9


def test_a_wrong_condition_is_said_with_its_place(faq, cli):
    ended = cli("search", "faq", "q", "--where", "year<20 and yaer>1")
    assert ended.status == 2
    said = " ".join(ended.err.replace("│", " ").split())
    assert "at character 13: the collection's schema has no field yaer; did you mean year?" in said


def test_the_end_says_how_to_get_the_next_page(faq, cli):
    assert "next page" not in cli("search", "faq", "q").err
    token = faq.response.next_page_token = "".join(["WyJh", "Il0="])
    ended = cli("search", "faq", "q")
    assert ended.err == f"next page: the same command with --page-token {token}\n"
    cli("search", "faq", "q", "--page-token", token)
    first, second = faq.requests[-2:]
    assert second.page_token == token
    second.ClearField("page_token")
    assert second == first, "or the server would refuse the token"


def test_options_that_shape_the_list_reach_the_request(faq, cli):
    options = ["--pin", "d2", "--pin", "d1", "--exclude", "d3", "--collapse", "year", "--members", 2]
    options += ["--diversity", 0.4, "--boost", "year>=2020:0.5", "--boost", "year=1999:+-0.2"]
    assert cli("search", "faq", "q", *options, "--fresh", "written:30d:+1.5").status == 0
    request = faq.requests[-1]
    assert (request.pinned_ids, request.exclude_ids) == (["d2", "d1"], ["d3"])
    assert (request.collapse.field, request.collapse.members) == ("year", 2)
    assert request.diversity.relevance_weight == 0.4
    newer, older, fresh = request.boosts
    assert (newer.filter.range.gte.integer_value, newer.weight) == (2020, 0.5)
    assert (newer.mode, older.mode, fresh.mode) == (1, 2, 2)
    assert (older.filter.equal_to.value.integer_value, older.weight) == (1999, -0.2)
    assert (fresh.freshness.field, fresh.freshness.half_life.seconds, fresh.weight) == (
        "written",
        2_592_000,
        1.5,
    )
    cli("search", "faq", "q", "--boost", "year=1999:.5", "--boost", "year=1999:+-.5", "--boost", "year=1:2.")
    assert [boost.weight for boost in faq.requests[-1].boosts] == [0.5, -0.5, 2]
    cli("search", "faq", "q", "--popular", "year:1000", "--popular", "year:3.5:+.5")
    popular = [(b.popularity.field, b.popularity.half, b.weight, b.mode) for b in faq.requests[-1].boosts]
    assert popular == [("year", 1000, 1, 1), ("year", 3.5, 0.5, 2)]
    cli("search", "faq", "", "--more-like", "d7")
    assert faq.requests[-1].more_like == "d7"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--boost", "nope=1"], "--boost: at character 1"),
        (["--fresh", "written"], "is not FIELD:AGE"),
        (["--fresh", "written:soon"], "is not FIELD:AGE"),
        (["--fresh", ":30d"], "is not FIELD:AGE"),
        (["--popular", "views"], "is not FIELD:HALF"),
        (["--popular", "views:0"], "is not FIELD:HALF"),
        (["--popular", "views:inf"], "is not FIELD:HALF"),
        (["--popular", "views:3:x"], "is not FIELD:HALF"),
        (["--popular", ":3"], "is not FIELD:HALF"),
        (["--members", "2"], "--members needs --collapse"),
    ],
)
def test_an_option_that_cannot_be_read_is_a_mistake_of_usage(faq, cli, options, problem):
    ended = cli("search", "faq", "q", *options)
    assert ended.status == 2
    assert problem in " ".join(ended.err.replace("│", " ").split())


def test_a_boost_that_met_no_hit_says_how_it_was_read(faq, cli):
    faq.response.hits[0].explanation.boosts.add(boost=1, strength=1, effect=2)
    options = ["--boost", "tag=a:1", "--boost", 'tag="a:1"', "--fresh", "written:30d:0.5"]
    ended = cli("search", "faq", "q", *options)
    assert ended.err.splitlines() == [
        "--boost met none of these hits: tag=a:1 was read as the condition tag=a with the weight 1",
        "--fresh met none of these hits: written:30d:0.5 was read as the field written with the weight 0.5",
    ]
    assert faq.requests[-1].explain
    assert "bm25   rank" not in ended.out, "nobody asked for explanations"
    assert "boost 2" in cli("search", "faq", "q", *options, "--explain").out
    cli("search", "faq", "q", *options, "--json")
    assert not faq.requests[-1].explain, "the answer has what was asked for"
    assert not cli("search", "faq", "q").err
    del faq.response.hits[:]
    assert not cli("search", "faq", "q", *options).err, "there was nothing to meet"


def test_a_person_sees_what_is_pinned_alike_and_why_it_moved(faq, cli):
    hit = faq.response.hits[0]
    hit.pinned, hit.collapsed = True, 3
    member = hit.members.add(score=0.5)
    member.document.id = "d8"
    hit.explanation.similarity = 0.25
    hit.explanation.boosts.add(boost=1, strength=0.5, effect=1.5)
    faq.response.not_pinned.add(document_id="gone", reason=1)
    ended = cli("search", "faq", "q", "--explain")
    said = " ".join(ended.out.split())
    assert "d7 pinned and 3 alike" in said
    assert "also d8 0.5000" in said
    assert "boost 2: strength 0.50, effect 1.5000" in said
    assert "repeats 0.25 of the hits above" in said
    assert "not pinned: gone: not found" in said


def test_the_snippet_with_most_words_is_shown_with_its_words_marked(faq, cli):
    def add(field, basis, *fragments):
        snippet = faq.response.hits[0].snippets.add(field=field, basis=basis)
        for fragment in fragments:
            snippet.fragments.add(**fragment)

    marks = [{"start": 4, "length": 4}, {"start": 16, "length": 6}]
    shown = {"text": "the card, then\n\ndelete \x1b it", "highlights": marks, "start": 90, "goes_on": True}
    add(
        "headline",
        search_service_pb2.SNIPPET_BASIS_WORDS,
        {"text": "card card", "highlights": [{"length": 4}]},
    )
    add("text", search_service_pb2.SNIPPET_BASIS_BEGINNING, {"text": "Long beginning. " * 10})
    add("other", search_service_pb2.SNIPPET_BASIS_WORDS, shown)
    lines = cli("search", "faq", "delete a card").out.splitlines()
    assert lines[1].strip() == "… the card, then delete � it …"
    written = write_best(faq.response.hits[0].snippets, "headline")
    assert [written.plain[span.start : span.end] for span in written.spans] == ["card", "delete"]


def test_what_is_nearest_by_meaning_is_shown_before_a_longer_beginning(faq, cli):
    for basis, text in (("BEGINNING", "a long beginning"), ("PASSAGE", "a passage")):
        snippet = faq.response.hits[0].snippets.add(
            field=basis, basis=search_service_pb2.SnippetBasis.Value(f"SNIPPET_BASIS_{basis}")
        )
        snippet.fragments.add(text=text)
    assert cli("search", "faq", "q").out.splitlines()[1].strip() == "a passage"


def test_facets_and_orders_reach_the_request(faq, cli):
    options = ["--facet", "tag", "--facet", "year:..2000,2000..2010,2010..", "--facet", "time:month"]
    cli("search", "faq", "q", *options, "--order-by", "year:desc", "--order-by", "tag")
    tag, year, time = faq.requests[-1].facets
    assert (tag.field, tag.WhichOneof("by")) == ("tag", None)
    assert [r.gte.integer_value for r in year.ranges.ranges] == [0, 2000, 2010]
    assert [r.HasField("lt") for r in year.ranges.ranges] == [True, True, False]
    assert time.calendar.interval == search_service_pb2.CALENDAR_INTERVAL_MONTH
    assert [(o.field, o.descending) for o in faq.requests[-1].order_by] == [("year", True), ("tag", False)]


def test_facets_are_shown_a_line_each(faq, cli):
    tag = faq.response.facets.add(field="tag", others=7)
    tag.counts.add(count=1_200).value.string_value = "sport\x1b"
    year = faq.response.facets.add(
        field="year", others=9, relation=search_service_pb2.TOTAL_RELATION_LOWER_BOUND
    )
    year.counts.add(count=2).range.gte.integer_value = 2000
    month = faq.response.facets.add(field="time")
    month.counts.add(count=3).range.gte.timestamp_value.FromJsonString("2026-01-01T00:00:00Z")
    faq.response.facets.add(field="empty")
    lines = cli("search", "faq", "q").out.splitlines()
    assert "tag  sport�: 1,200  others: 7" in lines
    assert "year  2000..: at least 2  others: at most 9" in lines
    assert "time  2026-01-01..: 3" in lines
    assert "empty  no document has a value" in lines
