"""The contract of ``quarry.retrieval.base.LexicalIndex`` about queries of terms."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quarry.filters import EqualTo
from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.query_syntax import parse_text_query
from quarry.retrieval.text_query import Occurrence, Term, TermKind, TextQuery
from quarry.schema import Field, FieldType, Schema
from quarry.testing.lexical_index import fill_index, list_docnos
from quarry.types import Change, Docno, Fields
from quarry.vocabulary import SynonymRule, Vocabulary

SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, boost=2.0, is_title=True),
        Field("text", FieldType.TEXT),
        Field("note", FieldType.TEXT, language="es"),
        Field("tag", FieldType.KEYWORD),
    )
)
DOCUMENTS: list[Fields] = [
    {"title": "red shoe", "text": "a shoe for running fast, beside the espresso bar"},
    {"title": "blue shoe", "text": ["red laces", "configuration of windows"], "tag": "sale"},
    {"title": "green hat", "text": "wool, by The Who, over Wi-Fi", "note": "備份資料庫 mañana"},
    {"title": "red hat", "text": "red wool, red band, fast running, café", "note": "la manana azul"},
]
LONG = "x" * 256
"""A word that is too long for an index."""
FINDS: list[tuple[str, set[int]]] = [
    ("red shoe", {0, 1, 3}),
    ('"running fast"', {0}),
    ('"fast running"', {3}),
    ('"RUNNING, fast"', {0}),
    ('"laces configuration"', set()),
    ('"laces"', {1}),
    ('"the who"', {2}),
    ('"wool wool"', set()),
    ("+red", {0, 1, 3}),
    ("+red shoe", {0, 1, 3}),
    ("+red +hat", {3}),
    ("red -shoe", {3}),
    ("+red -hat running", {0, 1}),
    ('red -"red wool"', {0, 1}),
    ("+zzz red", set()),
    ("red -zzz", {0, 1, 3}),
    ("+wi-fi", {2}),
    ("red -wi-fi", {0, 1, 3}),
    ("title:red", {0, 3}),
    ("text:red", {1, 3}),
    ('title:"red hat"', {3}),
    ("shoe -title:red", {1}),
    ("note:red", set()),
    ("configura*", {1}),
    ("+run* hat", {0, 3}),
    ("title:ha*", {2, 3}),
    ("text:sho*", {0}),
    ("red -win*", {0, 3}),
    ("caf*", {3}),
    ("man*", {2, 3}),
    ("expresso~", {0}),
    ("espreso~1", {0}),
    ("esprseso~", {0}),
    ("red~", {0, 1, 3}),
    ("rad~", set()),
    ("rad~1", {0, 1, 3}),
    ("ha~", set()),
    ("confugiratoin~", set()),
    ("confogurateon~", {1}),
    ("title:expresso~", set()),
    ("+expresso~ red", {0}),
    ("mañana", {2, 3}),
    ('"manana azul"', {3}),
    ('"mañana azul"', {3}),
    ("manyana~ azul", {2, 3}),
    ('"備份資料庫"', {2}),
    ("+資料", {2}),
    ("+資庫", set()),
    ("備份*", {2}),
    ("zzz", set()),
    (f'"red {LONG}"', set()),
    (f'+"{LONG} hat"', set()),
    (f'red -"wool {LONG}"', {0, 1, 3}),
    (f"+hat-{LONG} red", set()),
    (f"{LONG}-ha*", set()),
    (f"red {LONG}", {0, 1, 3}),
]


class LexicalTermsContract:
    """The promises about queries of terms. Subclass it as ``Test...``, and write ``open_index``."""

    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        """Opens an empty index in ``folder``, for documents of ``schema``."""
        raise NotImplementedError

    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[LexicalIndex]:
        opened = fill_index(self.open_index(tmp_path, SCHEMA), DOCUMENTS)
        yield opened
        opened.close()

    @pytest.mark.parametrize(("text", "expected"), FINDS)
    def test_a_query_finds_what_its_marks_say(
        self, index: LexicalIndex, text: str, expected: set[int]
    ) -> None:
        query = parse_text_query(text, SCHEMA)
        found = index.search(query, 10, None)
        assert set(list_docnos(found)) == expected
        assert found.total == len(expected)
        scores = [candidate.score for candidate in found.candidates]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= found.ceiling for score in scores)
        assert list_docnos(index.search(query, 1, None)) == list_docnos(found)[:1]
        everyone = [Docno(n) for n in range(len(DOCUMENTS))]
        again = index.score_documents(query, everyone)
        assert again == pytest.approx({c.docno: c.score for c in found.candidates})
        if query.restricts:
            assert expected <= {int(docno) for docno in index.keep_admitted(query, everyone)}

    def test_what_is_admitted_need_not_have_an_optional_term(self, index: LexicalIndex) -> None:
        everyone = [Docno(n) for n in (0, 1, 2, 3, 9)]
        for text, admitted in [("zzz -shoe", {2, 3}), ("zzz +red -hat", {0, 1}), ("+wool zzz", {2, 3})]:
            query = parse_text_query(text, SCHEMA)
            assert set(index.keep_admitted(query, everyone)) == admitted, text
            assert set(index.keep_admitted(query, everyone[1:2])) == admitted & {1}, text
            assert set(index.keep_admitted(query, [])) == set(), text

    def test_words_without_marks_score_as_in_a_plain_text(self, index: LexicalIndex) -> None:
        plain, marked = (
            index.search(q, 10, None) for q in ("red shoe", parse_text_query("red shoe", SCHEMA))
        )
        assert plain.candidates == marked.candidates
        assert plain.total == marked.total

    def test_an_optional_term_raises_the_score(self, index: LexicalIndex) -> None:
        only, more = (index.search(parse_text_query(q, SCHEMA), 10, None) for q in ("+red", "+red wool"))
        assert {c.docno for c in only.candidates} == {c.docno for c in more.candidates}
        assert list_docnos(more)[0] == 3

    def test_what_has_only_a_near_word_stands_below_what_has_an_exact_one(self, index: LexicalIndex) -> None:
        query = parse_text_query("expresso~ hat", SCHEMA)
        assert list_docnos(index.search(query, 10, None))[-1] == 0
        index.apply([Change(Docno(4), 5, {"title": "hat", "text": "hat " + "long " * 300})])
        index.commit(5)
        found = index.search(query, 10, None)
        assert set(list_docnos(found)) == {0, 2, 3, 4}
        assert list_docnos(found)[-1] == 0

    def test_a_near_word_counts_for_a_document_with_an_exact_one(self, index: LexicalIndex) -> None:
        assert list_docnos(index.search(parse_text_query("expresso~ shoe", SCHEMA), 10, None)) == [0, 1]

    def test_a_word_that_some_document_has_finds_no_near_ones(self, index: LexicalIndex) -> None:
        index.apply([Change(Docno(4), 5, {"text": "expresso train"})])
        index.commit(5)
        query = parse_text_query("expresso~", SCHEMA)
        assert list_docnos(index.search(query, 10, None)) == [4]
        index.apply([Change(Docno(4), 6, None)])
        index.commit(6)
        assert list_docnos(index.search(query, 10, None)) == [0]

    def test_a_filter_holds_too(self, index: LexicalIndex) -> None:
        found = index.search(parse_text_query("+sho*", SCHEMA), 10, EqualTo("tag", "sale"))
        assert (list_docnos(found), found.total) == ([1], 1)

    def search(self, index: LexicalIndex, text: str, **options: Any) -> list[int]:
        """Lists what a plain text finds with these options, once its scores are seen to be bounded."""
        query = TextQuery((Term(text),), **options)
        found = index.search(query, 10, None)
        assert all(0 < candidate.score <= found.ceiling for candidate in found.candidates)
        assert found.total == len(found.candidates)
        return list_docnos(found)

    @pytest.mark.parametrize(
        ("text", "exact", "near"),
        [
            ("expresso", [], [0]),
            ("expresso shoe", [0, 1], [0, 1]),
            ("expresso windows", [1], [1, 0]),
            ("rad", [], []),
            ("laccs wolo", [], [1, 2, 3]),
            ("configuration", [1], [1]),
            ("confugirashion", [], []),
            ("資庫料", [], []),
        ],
    )
    def test_a_typo_finds_near_words_if_the_search_tolerates_it(
        self, index: LexicalIndex, text: str, exact: list[int], near: list[int]
    ) -> None:
        assert list_docnos(index.search(text, 10, None)) == exact
        assert self.search(index, text) == exact
        assert self.search(index, text, tolerates_typos=True) == near
        query = TextQuery((Term(text),), tolerates_typos=True)
        assert all(candidate.score > 0.1 for candidate in index.search(query, 1, None).candidates)

    def test_a_word_finds_what_the_vocabulary_says_and_exact_words_count_more(
        self, index: LexicalIndex
    ) -> None:
        rules = (
            SynonymRule(("boot", "shoe")),
            SynonymRule(("brew",), ("espresso bar", "wool")),
            SynonymRule(("wireless network", "wi-fi")),
        )
        vocabulary = Vocabulary(rules)
        known = {"vocabulary": vocabulary}
        assert self.search(index, "boot") == []
        assert set(self.search(index, "boot", **known)) == {0, 1}
        assert set(self.search(index, "boots hat", **known)) == {0, 1, 2, 3}
        terms = [TextQuery((Term(text),), vocabulary=vocabulary) for text in ("boot", "boot boot")]
        assert index.search(terms[0], 9, None) == index.search(terms[1], 9, None)
        assert set(self.search(index, "brew", **known)) == {0, 2, 3}
        assert self.search(index, "espresso bar", **known) == [0]
        assert self.search(index, "wireless networks", **known) == [2]
        assert self.search(index, "wireless", **known) == []
        index.apply([Change(Docno(4), 5, {"text": "boot and a word more, so that it is no shorter"})])
        index.commit(5)
        assert self.search(index, "boot", **known)[0] == 4

    def test_marks_take_synonyms_only_where_something_is_required(self, index: LexicalIndex) -> None:
        known = Vocabulary((SynonymRule(("boot", "shoe")), SynonymRule(("crimson", "red"))))

        def find(text: str) -> set[int]:
            query = replace(parse_text_query(text, SCHEMA), vocabulary=known)
            found = set(list_docnos(index.search(query, 10, None)))
            assert (
                found == set(index.keep_admitted(query, [Docno(n) for n in range(4)])) or not query.restricts
            )
            return found

        assert find("+boot +crimson") == {0, 1}
        assert find("+crimson -boot") == {0, 1, 3}
        assert find('"boot"') == set()
        assert find("boo*") == set()
        assert find("title:crimson") == {0, 3}

    def test_stop_words_are_left_out_unless_there_is_no_other(self, index: LexicalIndex) -> None:
        known = {"vocabulary": Vocabulary(stop_words=("RED", "manaña"))}
        assert set(self.search(index, "red shoe", **known)) == {0, 1}
        assert set(self.search(index, "red", **known)) == {0, 1, 3}
        assert set(self.search(index, "mañana red hat", **known)) == {2, 3}
        query = replace(parse_text_query('+red "red wool"', SCHEMA), vocabulary=known["vocabulary"])
        assert set(list_docnos(index.search(query, 10, None))) == {0, 1, 3}

    def test_stop_words_of_the_language_are_not_looked_for_beside_a_synonym(
        self, index: LexicalIndex
    ) -> None:
        rule = SynonymRule(("boot", "shoe"))
        assert set(self.search(index, "the boot", vocabulary=Vocabulary((rule,)))) == {0, 1}
        assert set(self.search(index, "by the boot of", vocabulary=Vocabulary((rule,)))) == {0, 1}
        index.apply([Change(Docno(4), 5, {"note": "the boot"}), Change(Docno(5), 6, {"note": "The Who"})])
        index.commit(6)
        known = Vocabulary((rule,), ("who",))
        assert set(self.search(index, "the boot", vocabulary=known)) == {0, 1, 4, 5}  # no stop word of "es"
        assert set(self.search(index, "the who", vocabulary=known)) == {2, 4, 5}
        query = replace(parse_text_query("title:the-boot", SCHEMA), vocabulary=known, tolerates_typos=True)
        assert set(list_docnos(index.search(query, 10, None))) == {0, 1}
        assert index.rewrite_query(query).terms

    def test_stop_words_of_both_kinds_are_one_set(self, index: LexicalIndex) -> None:
        known = Vocabulary(stop_words=("red",))
        assert set(self.search(index, "the red", vocabulary=known)) == {0, 1, 3}
        assert set(self.search(index, "the red of by", vocabulary=known)) == {0, 1, 3}
        assert set(self.search(index, "the red shoe", vocabulary=known)) & {0, 1, 3} == {0, 1}

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('"red wool" the', {3}),
            ('the "red wool" by', {3}),
            ("configura* the", {1}),
            ("expresso~ the", {0}),
            ("title:hat the", {2, 3}),
            ('the -"red wool"', {0, 2}),
        ],
    )
    def test_a_stop_word_beside_another_term_is_not_looked_for(
        self, index: LexicalIndex, text: str, expected: set[int]
    ) -> None:
        query = parse_text_query(text, SCHEMA)
        found = index.search(query, 10, None)
        assert (set(list_docnos(found)), found.total) == (expected, len(expected))

    @pytest.mark.parametrize(
        ("text", "rewritten"),
        [
            ("red shoe", [Term("red shoe")]),
            ("espresso~", [Term("espresso")]),
            ("+espresso~", [Term("espresso")]),
            ("expresso~", [Term("expresso", TermKind.FUZZY, distance=1)]),
            ("+confogurateon~", [Term("confogurateon", TermKind.FUZZY, Occurrence.REQUIRED, distance=2)]),
            ("zzzzzzz~", []),
            ("title:expresso~ -hat", [Term("hat", occurs=Occurrence.EXCLUDED)]),
            ('con* "a b"', [Term("con", TermKind.PREFIX), Term("a b", TermKind.PHRASE)]),
            ("red -band the", [Term("red the"), Term("band", occurs=Occurrence.EXCLUDED)]),
            ("the +hat", [Term("the", languages=("es",)), Term("hat", occurs=Occurrence.REQUIRED)]),
        ],
    )
    def test_a_query_is_rewritten_for_what_the_index_has(
        self, index: LexicalIndex, text: str, rewritten: list[Term]
    ) -> None:
        assert list(index.rewrite_query(parse_text_query(text, SCHEMA)).terms) == rewritten

    def test_typos_and_synonyms_are_rewritten_too(self, index: LexicalIndex) -> None:
        known = Vocabulary((SynonymRule(("boot", "shoe")),), ("the",))
        query = TextQuery((Term("the boot expresso zzzzzzz"),), tolerates_typos=True, vocabulary=known)
        assert set(index.rewrite_query(query).terms) == {
            Term("boot", others=("shoe",)),
            Term("expresso zzzzzzz"),
            Term("expresso", TermKind.FUZZY, distance=1),
        }

    def test_an_index_without_documents_or_without_searched_texts_finds_nothing(self, tmp_path: Path) -> None:
        known = Vocabulary((SynonymRule(("boot", "shoe")),), ("the",))
        hidden = Schema((Field("title", FieldType.TEXT, searchable=False), Field("tag", FieldType.KEYWORD)))
        empty = self.open_index(tmp_path / "empty", SCHEMA)
        unsearched = fill_index(self.open_index(tmp_path / "unsearched", hidden), [{"title": "boot"}])
        for index in (empty, unsearched):
            for text in ("boot", "+boot", "-the boot", '"the boot"', "boo*", "booot~", "the"):
                query = replace(parse_text_query(text, SCHEMA), tolerates_typos=True, vocabulary=known)
                found = index.search(query, 10, None)
                assert (found.candidates, found.total) == ([], 0), text
                assert index.score_documents(query, [Docno(0)]) == {}
                assert not index.keep_admitted(parse_text_query("+boot", SCHEMA), [Docno(0)])
                assert TermKind.FUZZY not in {term.kind for term in index.rewrite_query(query).terms}
            index.close()
