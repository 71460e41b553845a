"""The contract of ``quarry.retrieval.base.LexicalIndex``."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from quarry.filters import AllOf, AnyOf, EqualTo, Exists, Filter, NoneOf, OneOf, Prefix, Range, matches
from quarry.retrieval.base import LexicalIndex, LexicalResult
from quarry.testing.strategies import FILTER_SCHEMA, VALUES, draw_documents, draw_filters
from quarry.types import Change, Docno, Fields, Position

GENERATION = "g1"
Reopen = Callable[[], LexicalIndex]

FIELDS: list[Fields] = [
    {"title": "red shoe", "text": "a shoe for running", "tag": "sport", "count": 3},
    {"title": "blue shoe", "text": "red laces", "tag": ["sport", "sale"], "price": 9.5},
    {"title": "green hat", "text": "wool", "tag": "", "sale": True},
    {"title": "red hat", "text": "red wool, red band, red", "count": [1, 9], "time": -1},
]


def fill_index(index: LexicalIndex, fields: list[Fields]) -> LexicalIndex:
    """Fills ``index`` with these documents, docno 0, 1, ..., at version docno + 1."""
    index.apply([Change(Docno(n), n + 1, values) for n, values in enumerate(fields)])
    index.commit(len(fields))
    return index


def list_docnos(result: LexicalResult) -> list[int]:
    return [candidate.docno for candidate in result.candidates]


def list_versions(index: LexicalIndex) -> dict[int, int]:
    return {int(docno): version for docno, version in index.read_versions()}


def list_conditions() -> Iterator[Filter]:
    """Lists each kind of condition with each edge value of each field."""
    for field in FILTER_SCHEMA.filterable:
        yield Exists(field.name)
        yield OneOf(field.name, ())
        yield OneOf(field.name, VALUES[field.type])
        for value in VALUES[field.type]:
            yield EqualTo(field.name, value)
            if isinstance(value, str):
                yield from (Prefix(field.name, value[:length]) for length in (0, 1, len(value)))
            if not isinstance(value, bool):
                yield from (Range(field.name, **{side: value}) for side in ("gt", "gte", "lt", "lte"))


class LexicalIndexContract:
    """The promises of every lexical index. Subclass it as ``Test...``, and write ``open_index``."""

    def open_index(self, folder: Path) -> LexicalIndex:
        """Opens the index of ``folder``, empty at first, with the schema ``FILTER_SCHEMA`` and the generation
        ``GENERATION``.

        Once it is closed, the same folder gives the same index again, with all that was committed. The test
        of an index in memory keeps the index for that.
        """
        raise NotImplementedError

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return lambda: self.open_index(tmp_path)

    @pytest.fixture
    def index(self, reopen: Reopen) -> Iterator[LexicalIndex]:
        opened = reopen()
        yield opened
        opened.close()

    @pytest.fixture
    def shop(self, index: LexicalIndex) -> LexicalIndex:
        return fill_index(index, FIELDS)

    def test_a_new_index_is_empty_and_at_sequence_0(self, index: LexicalIndex) -> None:
        assert index.position == Position(GENERATION, 0)
        assert index.search("shoe", 10, None) == LexicalResult([], 0)
        assert index.browse(10, None) == LexicalResult([], 0)
        assert index.browse(10, NoneOf((Exists("tag"),))) == LexicalResult([], 0)
        assert index.score_documents("shoe", [Docno(1)]) == {}
        assert list_versions(index) == {}

    def test_a_search_finds_documents_with_any_of_its_words_best_first(self, shop: LexicalIndex) -> None:
        result = shop.search("red shoe", 10, None)
        assert result.total == 3
        assert list_docnos(result)[0] == 0
        assert set(list_docnos(result)) == {0, 1, 3}
        scores = [candidate.score for candidate in result.candidates]
        assert scores == sorted(scores, reverse=True)
        assert all(candidate.passage == 0 for candidate in result.candidates)

    def test_what_shared_files_with_something_deleted_can_be_written_again(self, shop: LexicalIndex) -> None:
        shop.apply([Change(Docno(1), 9, None)])
        shop.commit(9)
        left = list_versions(shop).keys()
        for thorough in (False, True):
            found = shop.find_beside_deleted(thorough)
            assert set(found) <= left
            shop.apply([Change(docno, 5, FIELDS[docno]) for docno in found])
            shop.commit(9)
        assert shop.find_beside_deleted() == []
        assert list_versions(shop).keys() == left

    def test_case_does_not_matter(self, shop: LexicalIndex) -> None:
        assert shop.search("RED Shoe", 10, None) == shop.search("red shoe", 10, None)

    def test_a_boosted_field_weighs_more(self, index: LexicalIndex) -> None:
        fill_index(index, [{"title": "hat", "text": "shoe"}, {"title": "shoe", "text": "hat"}])
        assert list_docnos(index.search("shoe", 10, None)) == [1, 0]

    def test_boosts_are_scaled_and_at_0_a_boosted_field_counts_once(self, index: LexicalIndex) -> None:
        fill_index(index, [{"title": "hat", "text": "shoe"}, {"title": "shoe", "text": "hat"}])
        usual, none, double = (index.search("shoe", 10, None, scale) for scale in (1.0, 0.0, 2.0))
        assert usual == index.search("shoe", 10, None)
        plain, titled = Docno(0), Docno(1)
        scores = {scale: index.score_documents("shoe", [plain, titled], scale) for scale in (0.0, 1.0, 2.0)}
        assert scores[0.0][plain] == pytest.approx(scores[0.0][titled])
        assert scores[1.0][plain] == scores[2.0][plain] == scores[0.0][plain]
        added = scores[1.0][titled] - scores[0.0][titled]
        assert scores[2.0][titled] - scores[0.0][titled] == pytest.approx(2 * added)
        assert added > 0
        for result, scale in ((none, 0.0), (usual, 1.0), (double, 2.0)):
            assert {c.docno: c.score for c in result.candidates} == pytest.approx(scores[scale])
            assert max(c.score for c in result.candidates) <= result.ceiling
        assert none.ceiling < usual.ceiling < double.ceiling

    def test_a_word_counts_once_however_often_the_query_has_it(self, shop: LexicalIndex) -> None:
        assert shop.score_documents("red Red red", [Docno(0)]) == shop.score_documents("red", [Docno(0)])

    def test_all_values_of_a_text_field_are_searched(self, index: LexicalIndex) -> None:
        fill_index(index, [{"text": ["first", "second"]}])
        assert list_docnos(index.search("second", 10, None)) == [0]

    def test_the_total_counts_matches_that_pass_the_filter_whatever_the_depth(
        self, shop: LexicalIndex
    ) -> None:
        for depth in (0, 1, 10):
            result = shop.search("red", depth, Exists("count"))
            assert result.total == 2
            assert len(result.candidates) == min(depth, 2)

    def test_a_filter_does_not_change_scores(self, shop: LexicalIndex) -> None:
        free = {c.docno: c.score for c in shop.search("red shoe", 10, None).candidates}
        for filter in (Exists("tag"), EqualTo("tag", "sport"), NoneOf((EqualTo("count", 3),)), AnyOf(())):
            for candidate in shop.search("red shoe", 10, filter).candidates:
                assert candidate.score == pytest.approx(free[candidate.docno], rel=1e-6)

    def test_no_score_exceeds_the_ceiling_of_its_query(self, shop: LexicalIndex) -> None:
        shop.apply([Change(Docno(9), 9, {"title": "red " * 5_000, "text": "red " * 5_000})])
        shop.commit(9)
        for text in ("red", "red red shoe", "wool hat unheard-of"):
            result = shop.search(text, 10, None)
            assert 0 < result.candidates[0].score <= result.ceiling
            assert shop.search(text, 10, Exists("tag")).ceiling == result.ceiling
        assert shop.search("red", 10, None).ceiling < 1.05 * shop.score_documents("red", [Docno(9)])[Docno(9)]
        assert shop.search("unheard-of", 10, None).ceiling == 0

    def test_scores_of_given_documents_are_those_of_a_search(self, shop: LexicalIndex) -> None:
        found = shop.search("red wool", 10, None).candidates
        asked = [Docno(n) for n in range(6)]
        assert shop.score_documents("red wool", asked) == pytest.approx(
            {c.docno: c.score for c in found}, rel=1e-6
        )
        assert shop.score_documents("red", [Docno(2), Docno(99)]) == {}
        assert shop.score_documents("red", []) == {}
        assert shop.score_documents("!?", asked) == {}

    def test_a_text_without_words_matches_nothing(self, shop: LexicalIndex) -> None:
        for text in ("", " ", "...", "* - ?", '"', "\x00", "🙂 👩‍👩‍👧", "((("):
            assert shop.search(text, 10, None) == LexicalResult([], 0), text

    def test_no_character_of_a_query_is_syntax(self, shop: LexicalIndex) -> None:
        for text in (
            '"red', "red*", "red AND", "NOT red", "title:red", "error: cannot open red", "red)", "[red TO",
            "red^9", "+red -shoe~2", "\x00red\x00", "🙂red🙂", "red\\", "red" + " " * 100_000, "/red/",
            "_docno:0 red",
        ):  # fmt: skip
            assert {0, 1, 3} <= set(list_docnos(shop.search(text, 10, None))), text

    def test_a_query_of_100_000_characters_is_answered(self, shop: LexicalIndex) -> None:
        text = "red " + " ".join(f"w{n}" for n in range(16_000))
        assert len(text) > 100_000
        assert set(list_docnos(shop.search(text, 10, None))) == {0, 1, 3}
        assert shop.search("x" * 100_000, 10, None).total == 0

    @given(text=st.text(max_size=50))
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    def test_any_text_can_be_searched_for(self, shop: LexicalIndex, text: str) -> None:
        result = shop.search(text, 10, None)
        assert result.total == len(result.candidates) <= len(FIELDS)

    def test_ties_are_in_order_of_docno_also_at_the_cut(self, index: LexicalIndex) -> None:
        same: Fields = {"title": "red shoe", "text": "the same words in each"}
        for start in (60, 20, 40, 0):  # so that the engine's own order is another
            index.apply([Change(Docno(start + n), 1 + start + n, same) for n in reversed(range(20))])
            index.commit(start + 20)
        for depth in (1, 7, 25, 79, 80, 100):
            for filter in (None, NoneOf((Exists("tag"),))):
                result = index.search("same shoe", depth, filter)
                assert list_docnos(result) == list(range(min(depth, 80)))
                assert result.total == 80

    def test_browsing_is_in_order_of_docno(self, index: LexicalIndex) -> None:
        for docno in (5, 2, 9, 2**48 - 1, 0):
            index.apply([Change(Docno(docno), 1, {"tag": "a"})])
            index.commit(1)
        assert list_docnos(index.browse(10, None)) == [0, 2, 5, 9, 2**48 - 1]
        result = index.browse(2, EqualTo("tag", "a"))
        assert (list_docnos(result), result.total) == ([0, 2], 5)
        assert [c.score for c in result.candidates] == [0.0, 0.0]
        assert index.browse(0, None) == LexicalResult([], 5)

    def test_browsing_finds_the_first_that_pass_however_many_do_not(self, shop: LexicalIndex) -> None:
        for filter, expected in (
            (EqualTo("tag", "sale"), [1]),
            (Exists("count"), [0, 3]),
            (Exists("time"), [3]),
        ):
            result = shop.browse(len(expected), filter)
            assert (list_docnos(result), result.total) == (expected, len(expected))

    def test_browsing_goes_on_at_any_docno_and_counts_what_came_before(self, index: LexicalIndex) -> None:
        docnos = (0, 1, 2, 5, 9, 2**48 - 1)
        for version, docno in enumerate(docnos, start=1):
            index.apply([Change(Docno(docno), version, {"tag": "a" if docno != 2 else "b"})])
        index.commit(len(docnos))
        for filter in (None, EqualTo("tag", "a")):
            passing = [docno for docno in docnos if filter is None or docno != 2]
            for first in (0, 1, 2, 3, 9, 10, 2**48 - 1):
                left = [docno for docno in passing if docno >= first]
                for depth in (0, 1, 3, 10):
                    result = index.browse(depth, filter, Docno(first))
                    assert (list_docnos(result), result.total) == (left[:depth], len(passing))

    def test_changes_are_not_seen_before_the_commit(self, shop: LexicalIndex) -> None:
        shop.apply([Change(Docno(0), 9, None), Change(Docno(7), 10, {"title": "red"})])
        assert set(list_docnos(shop.search("red", 10, None))) == {0, 1, 3}
        assert list_versions(shop) == {0: 1, 1: 2, 2: 3, 3: 4}
        assert shop.position.sequence == 4
        shop.commit(10)
        assert set(list_docnos(shop.search("red", 10, None))) == {1, 3, 7}
        assert shop.position == Position(GENERATION, 10)

    def test_a_document_replaces_what_its_docno_had(self, shop: LexicalIndex) -> None:
        shop.apply([Change(Docno(0), 5, {"title": "black boot", "tag": "winter"})])
        shop.commit(5)
        assert 0 not in list_docnos(shop.search("shoe running", 10, None))
        assert list_docnos(shop.search("boot", 10, None)) == [0]
        assert 0 not in list_docnos(shop.browse(10, EqualTo("tag", "sport")))
        assert list_versions(shop)[0] == 5
        assert shop.browse(10, None).total == 4

    def test_a_deleted_document_is_gone_and_can_come_back(self, shop: LexicalIndex) -> None:
        shop.apply([Change(Docno(0), 5, None)])
        shop.commit(5)
        assert list_docnos(shop.browse(10, None)) == [1, 2, 3]
        assert shop.score_documents("shoe", [Docno(0)]) == {}
        shop.apply([Change(Docno(0), 6, FIELDS[0])])
        shop.commit(6)
        assert list_docnos(shop.search("running", 10, None)) == [0]
        assert list_versions(shop) == {0: 6, 1: 2, 2: 3, 3: 4}

    def test_the_last_change_of_a_docno_counts_within_and_across_batches(self, index: LexicalIndex) -> None:
        one, two = Docno(1), Docno(2)
        index.apply([Change(one, 1, {"text": "old"}), Change(two, 2, {"text": "old"}), Change(one, 3, None)])
        index.apply([Change(two, 4, {"text": "new"}), Change(one, 5, {"text": "new"})])
        index.commit(5)
        assert list_docnos(index.search("new old", 10, None)) == [1, 2]
        assert list_versions(index) == {1: 5, 2: 4}

    def test_deleting_what_is_not_there_does_no_harm(self, index: LexicalIndex) -> None:
        index.apply([Change(Docno(5), 1, None)])
        index.apply([])
        index.commit(1)
        assert list_versions(index) == {}

    def test_applying_changes_again_does_no_harm(self, shop: LexicalIndex) -> None:
        before = shop.browse(10, None)
        fill_index(shop, FIELDS)
        assert shop.browse(10, None) == before
        assert list_versions(shop) == {0: 1, 1: 2, 2: 3, 3: 4}

    def test_a_commit_can_move_the_position_alone(self, shop: LexicalIndex) -> None:
        shop.commit(77)
        assert shop.position == Position(GENERATION, 77)
        assert shop.browse(10, None).total == 4

    def test_after_reopening_only_what_was_committed_is_there(self, reopen: Reopen) -> None:
        index = fill_index(reopen(), FIELDS)
        index.apply([Change(Docno(0), 5, None), Change(Docno(9), 6, {"title": "red"})])
        index.close()
        again = reopen()
        assert again.position == Position(GENERATION, 4)
        assert list_versions(again) == {0: 1, 1: 2, 2: 3, 3: 4}
        again.commit(6)
        assert set(list_docnos(again.search("red", 10, None))) == {0, 1, 3}
        again.close()

    def test_the_position_is_no_document(self, shop: LexicalIndex) -> None:
        everything: list[Filter | None] = [
            None,
            AllOf(()),
            NoneOf((AnyOf(()),)),
            NoneOf((Exists("tag"),)),
            NoneOf((EqualTo("count", 3),)),
        ]
        for filter in everything:
            expected = [n for n, fields in enumerate(FIELDS) if filter is None or matches(filter, fields)]
            result = shop.browse(10, filter)
            assert (list_docnos(result), result.total) == (expected, len(expected))
        for text in (GENERATION, "4", "1", "marker"):
            assert shop.search(text, 10, None).total == 0
        assert list_versions(shop).keys() == {0, 1, 2, 3}

    def test_unknown_fields_are_kept_out(self, index: LexicalIndex) -> None:
        fill_index(index, [{"title": "hat", "colour": "red", "size": [1, 2]}])
        assert list_docnos(index.search("red", 10, None)) == []
        assert list_docnos(index.search("hat", 10, None)) == [0]

    def test_versions_are_those_of_all_documents_at_the_time_of_the_call(self, shop: LexicalIndex) -> None:
        streamed = shop.read_versions()
        shop.apply([Change(Docno(0), 5, None)])
        shop.commit(5)
        assert dict(streamed) == {0: 1, 1: 2, 2: 3, 3: 4}

    @pytest.fixture
    def edges(self, index: LexicalIndex) -> tuple[LexicalIndex, list[Fields]]:
        """Opens an index with a document an edge value, one a pair of neighbours, and one without values."""
        fields: list[Fields] = [{}]
        for field in FILTER_SCHEMA.filterable:
            several = VALUES[field.type]
            fields += [{field.name: value} for value in several]
            fields += [{field.name: [a, b]} for a, b in pairwise(several)]  # type: ignore[dict-item]
        return fill_index(index, fields), fields

    def test_each_condition_on_each_edge_value_means_what_matches_says(
        self,
        edges: tuple[LexicalIndex, list[Fields]],
    ) -> None:
        index, fields = edges
        for condition in list_conditions():
            for filter in (condition, NoneOf((condition,))):
                expected = [n for n, values in enumerate(fields) if matches(filter, values)]
                assert list_docnos(index.browse(len(fields), filter)) == expected, filter

    @given(
        contents=st.lists(draw_documents(FILTER_SCHEMA), max_size=20),
        drawn=st.lists(draw_filters(FILTER_SCHEMA), min_size=20, max_size=20),
    )
    @settings(
        max_examples=12,
        deadline=None,
        phases=set(Phase) - {Phase.explain},
        suppress_health_check=list(HealthCheck),
    )
    def test_filters_mean_what_matches_says(self, contents: list[Fields], drawn: list[Filter]) -> None:
        with TemporaryDirectory() as folder:
            index = fill_index(self.open_index(Path(folder)), contents)
            found = set(list_docnos(index.search("red shoe", 99, None)))
            for filter in drawn:
                expected = [n for n, fields in enumerate(contents) if matches(filter, fields)]
                result = index.browse(99, filter)
                assert (list_docnos(result), result.total) == (expected, len(expected)), filter
                searched = index.search("red shoe", 99, filter)
                assert set(list_docnos(searched)) == found.intersection(expected)
                assert searched.total == len(searched.candidates)
            index.close()

    def test_key_terms_are_frequent_in_the_text_and_rare_elsewhere(self, tmp_path: Path) -> None:
        index = fill_index(self.open_index(tmp_path), FIELDS)
        fields: Fields = {"title": "Red hats", "text": "wool wool, of unheard quality", "tag": "wool"}
        words = index.find_key_terms(fields, 10)
        assert words[0] == "wool"
        assert {word.lower() for word in words} <= {"red", "wool", "hats"}, "no other document has the rest"
        assert "Red" in words or "red" in words
        assert index.find_key_terms(fields, 1) == ["wool"]
        assert index.find_key_terms({"tag": "sport"}, 10) == []
        assert index.find_key_terms({"text": "red " * 100_000}, 3) == ["red"]
