"""Snippets show where a text has the query's words, whatever the text holds, and no HTML of its own."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from random import Random
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.search.searched import asked, searched

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, DuplicateError, OutOfRangeError, UnknownFieldError, WrongTypeError
from quarry.ranking.ranking import DegradationReason, DegradedStage
from quarry.retrieval.query_syntax import parse_text_query
from quarry.retrieval.text_query import SearchText, Term, TermKind, TextQuery
from quarry.schema import Field, FieldType, Schema
from quarry.search.answer_schedule import Slot
from quarry.search.results import snippets as snippets_module
from quarry.search.results.snippets import (
    Fragment,
    HighlightTag,
    Snippet,
    SnippetBasis,
    SnippetField,
    SnippetMaker,
    SnippetPlan,
    check_snippet_fields,
    choose_all_texts,
)
from quarry.search.service import SearchPage
from quarry.types import Fields

SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, is_title=True),
        Field("text", FieldType.TEXT),
        Field("texto", FieldType.TEXT, language="pt"),
        Field("text_zh", FieldType.TEXT, language="zh"),
        Field("notes", FieldType.TEXT, searchable=False, embedded=False),
        Field("year", FieldType.INTEGER),
    )
)
HOSTILE = "<script>alert('foxes')</script> & \"fox\" <em>not marked</em>"
WORDS = ["fox", "Foxes", "running", "café", "cafe\u0301", "ﬁne", "the", "<b>", "備份", "資料", "🦊", "x" * 30]
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=60).map(" ".join) | st.text()


def make(
    query: SearchText, fields: Fields, *asked: SnippetField, tag: HighlightTag = HighlightTag.EM
) -> list[Snippet]:
    chosen = asked or choose_all_texts(SCHEMA, 200, 1)
    return list(SnippetMaker(SnippetPlan(tuple(chosen), tag), query, SCHEMA).make_snippets(fields))


def list_marked(fragment: Fragment) -> list[str]:
    return [fragment.text[start:end] for start, end in fragment.highlights]


@pytest.mark.parametrize(
    ("field", "query", "text", "marked"),
    [
        ("text", "run shoes", "He runs in running SHOES", ["runs", "running", "SHOES"]),
        ("text", "cafe", "A café, a cafe\u0301", ["café", "cafe\u0301"]),
        ("text", "fine", "all is ﬁne", ["ﬁne"]),
        ("text", "the fox", "the red fox", ["fox"]),
        ("texto", "manutencao", "A manutenção dos carros", ["manutenção"]),
        ("text_zh", "備份資料", "您可以備份您的資料。", ["備份", "資料"]),
        ("text", "pizza 🍕", "one 🍕, one pizzas", ["🍕", "pizzas"]),
        ("notes", "fox", "foxes", ["foxes"]),
    ],
)
def test_words_are_marked_as_bm25_compares_them(field: str, query: str, text: str, marked: list[str]) -> None:
    (snippet,) = make(query, {field: text})
    assert (snippet.field, snippet.basis) == (field, SnippetBasis.WORDS)
    assert list_marked(snippet.fragments[0]) == marked


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("foxes -dog", "a fox, a dog", ["fox"]),
        ("+fox -title:dog cat*", "The cats and the fox", ["cats", "fox"]),
        ("cat*", "A Cäte, scatter, CATEGORY", ["Cäte", "CATEGORY"]),
        ('"red fox"', "a fox is red, no red fox", ["red", "fox"]),
        ('"red fox"', "a fox is red", []),
        ("th* cow", "this and that, a dog", ["this", "that"]),
        ('"of the" cow', "one of the cows, the best of them", ["of", "the", "cows"]),
        ("+the cow", "the dog", ["the"]),
        ('"備份資料"', "資料 備份資料", ["備份資料"]),
        ("espreso~1 x", "one espresso", ["espresso"]),
        ("title:fox", "a fox", []),
        ("-fox dog", "a fox", []),
        ("text:fox title:dog", "a dog, a fox", ["fox"]),
    ],
)
def test_marks_are_those_of_the_terms_that_bm25_finds(query: str, text: str, marked: list[str]) -> None:
    (snippet,) = make(parse_text_query(query, SCHEMA), {"text": text})
    assert [word for part in snippet.fragments for word in list_marked(part)] == marked


def test_synonyms_are_marked() -> None:
    (snippet,) = make(TextQuery((Term("boot", others=("rubber shoe",)),)), {"text": "rubber shoes, boots"})
    assert list_marked(snippet.fragments[0]) == ["rubber", "shoes", "boots"]
    (snippet,) = make(TextQuery((Term("boot", others=("rubber shoe",)),)), {"text": "a shoe of rubber"})
    assert snippet.basis is SnippetBasis.BEGINNING


def test_near_words_of_long_texts_are_looked_for_in_less_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snippets_module, "MOST_READ", 100)
    maker = SnippetMaker(
        SnippetPlan(choose_all_texts(SCHEMA, 200, 1)), parse_text_query("fo*", SCHEMA), SCHEMA
    )
    bases = [maker.make_snippets({"text": "a fox here " * 5})[0].basis for _ in range(3)]
    assert bases == [SnippetBasis.WORDS, SnippetBasis.BEGINNING, SnippetBasis.BEGINNING]


def test_a_page_has_room_for_less_text_the_more_near_words_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snippets_module, "MOST_READ", 1_000)
    shown = []
    for query in ("fxx~1", "fxx~1 doggg~2 catttt~2"):
        maker = SnippetMaker(
            SnippetPlan(choose_all_texts(SCHEMA, 200, 1)), parse_text_query(query, SCHEMA), SCHEMA
        )
        bases = [maker.make_snippets({"text": "a fox here " * 8})[0].basis for _ in range(20)]
        shown.append(bases.count(SnippetBasis.WORDS))
    assert shown == [4, 3]


def test_many_near_words_in_a_text_of_different_words_take_no_seconds() -> None:
    chosen = Random(16)
    words = ["".join(chosen.choices(ascii_lowercase, k=8)) for _ in range(60_000)]
    terms = tuple(Term(f"qqzz{letter * 4}", TermKind.FUZZY, distance=2) for letter in "abcdefgh")
    begun_s = time.thread_time()
    make(TextQuery(terms), {"text": " ".join(words)})
    assert time.thread_time() - begun_s < 2.0  # eight seconds when each word was compared by itself


def test_texts_are_shown_from_their_beginning_when_the_time_is_up() -> None:
    plan, search_text = SnippetPlan(choose_all_texts(SCHEMA, 200, 1)), parse_text_query("fox~1", SCHEMA)
    maker = SnippetMaker(plan, search_text, SCHEMA, Deadline.set_after(60))
    assert (maker.make_snippets({"text": "a fox"})[0].basis, maker.late) == (SnippetBasis.WORDS, False)
    maker = SnippetMaker(plan, search_text, SCHEMA, Deadline.set_after(0))
    assert (maker.make_snippets({"text": "a fox"})[0].basis, maker.late) == (SnippetBasis.BEGINNING, True)


def test_the_part_with_most_different_words_is_shown_even_if_it_is_deep_in_the_text() -> None:
    text = "One card. " + "Nothing here. " * 4_000 + "Delete the card from the list. " + "Or not. " * 100
    (snippet,) = make("delete card list", {"text": text}, SnippetField("text", 80))
    (fragment,) = snippet.fragments
    assert "Delete the card from the list." in fragment.text
    assert text[fragment.start :].startswith(fragment.text)
    assert fragment.goes_on


def test_a_text_that_repeats_one_word_is_not_read_to_its_end() -> None:
    text = "fox " * 200_000 + "dog"
    (snippet,) = make("fox dog", {"text": text}, SnippetField("text", 20, 10))
    assert [len(fragment.highlights) for fragment in snippet.fragments] == [5] * 10


def test_several_fragments_are_in_the_order_of_the_text_and_show_new_words_first() -> None:
    text = "apple. " + "x " * 100 + "pear. " + "y " * 100 + "apple again. " + "z " * 100 + "plum."
    (snippet,) = make("apple pear plum", {"text": text}, SnippetField("text", 30, 3))
    shown = [list_marked(fragment) for fragment in snippet.fragments]
    assert shown == [["apple"], ["pear"], ["plum"]]


def test_a_list_says_which_value_a_fragment_is_of() -> None:
    (snippet,) = make("fox", {"text": ["a dog", "", "a fox"]})
    assert [(f.value, f.text) for f in snippet.fragments] == [(2, "a fox")]


def test_a_field_without_the_words_is_shown_from_its_beginning_and_an_empty_one_is_not() -> None:
    (snippet,) = make("fox", {"title": "", "text": ["", "only a dog"], "notes": []})
    assert (snippet.basis, snippet.fragments[0].text) == (SnippetBasis.BEGINNING, "only a dog")
    assert snippet.fragments[0].value == 1


def test_html_of_a_text_comes_out_escaped_and_only_the_tag_is_added() -> None:
    (snippet,) = make("fox", {"title": HOSTILE}, tag=HighlightTag.MARK)
    written = snippet.fragments[0].html
    assert written == (
        "&lt;script&gt;alert(&#x27;<mark>foxes</mark>&#x27;)&lt;/script&gt; &amp; "
        "&quot;<mark>fox</mark>&quot; &lt;em&gt;not marked&lt;/em&gt;"
    )


def test_the_passage_is_shown_where_a_text_has_no_word() -> None:
    fields: Fields = {"title": "Pets", "text": ["First.", "Second. A dog barks. Third."]}
    maker = SnippetMaker(SnippetPlan(choose_all_texts(SCHEMA, 200, 1)), "fox", SCHEMA)
    snippets = maker.make_snippets(fields)
    assert maker.lacks_words(snippets)
    title, text = maker.show_passage(snippets, fields, "Pets\nA dog barks. Third.")
    assert (title.basis, text.basis) == (SnippetBasis.BEGINNING, SnippetBasis.PASSAGE)
    assert (text.fragments[0].value, text.fragments[0].start) == (1, 8)
    assert text.fragments[0].text == "A dog barks. Third."
    assert maker.show_passage(snippets, fields, "Pets\nIt was changed.") == snippets


@given(texts, texts, st.integers(20, 300), st.integers(1, 4), st.sampled_from(["text", "texto", "text_zh"]))
@settings(max_examples=300, deadline=None)
def test_fragments_are_apart_pieces_of_the_text_and_marks_lie_in_them(
    text: str, query: str, length: int, count: int, name: str
) -> None:
    for snippet in make(query, {name: text}, SnippetField(name, length, count)):
        place = 0
        assert 1 <= len(snippet.fragments) <= count
        for fragment in snippet.fragments:
            assert len(fragment.text) <= length
            assert fragment.start >= place
            place = fragment.start + len(fragment.text)
            assert text[fragment.start : place] == fragment.text
            assert fragment.goes_on == bool(text[place:].strip())
            ends = [-1, *(end for pair in fragment.highlights for end in pair)]
            assert ends == sorted(set(ends))
            assert ends[-1] <= len(fragment.text)
            assert bool(fragment.highlights) == (snippet.basis is SnippetBasis.WORDS)
            assert read_html(fragment.html) == (fragment.text, list_marked(fragment))


def read_html(written: str) -> tuple[str, list[str]]:
    """Reads the text of HTML, and what stands in <em>."""
    assert not set(re.findall(r"<[^>]*>", written)) - {"<em>", "</em>"}
    assert '"' not in written
    assert "'" not in written

    class Reader(HTMLParser):
        text, marked, inside = "", list[str](), False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.inside = True
            self.marked.append("")

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

        def handle_data(self, data: str) -> None:
            self.text += data
            if self.inside:
                self.marked[-1] += data

    reader = Reader()
    reader.marked = []
    reader.feed(written)
    reader.close()
    return reader.text, reader.marked


@pytest.mark.parametrize(
    ("names", "error", "path"),
    [
        (["text", "nowhere"], UnknownFieldError, "fields[1].name"),
        (["year"], WrongTypeError, "fields[0].name"),
        (["text", "text"], DuplicateError, "fields[1].name"),
    ],
)
def test_fields_without_snippets_are_refused(names: list[str], error: type, path: str) -> None:
    with pytest.raises(error) as refused:
        check_snippet_fields(names, SCHEMA)
    assert refused.value.field == path


@pytest.mark.parametrize(("length", "fragments"), [(19, 1), (1_001, 1), (20, 0), (20, 11)])
def test_numbers_out_of_range_are_refused(length: int, fragments: int) -> None:
    with pytest.raises(OutOfRangeError):
        SnippetField("text", length, fragments)


class LateSlot(Slot):
    """Has no time left for what an answer can do without."""

    def leave_time_to_send(self) -> Deadline:
        return Deadline.set_after(0)


async def test_an_answer_says_if_there_was_no_time_for_snippets() -> None:
    request = asked(snippets=SnippetPlan((SnippetField("text"),)))
    end = Deadline.set_after(30)
    with searched() as found:

        async def search(slot: Slot, require_complete: bool = False) -> SearchPage[str]:
            query = replace(found.stack.make_query("t0"), require_complete=require_complete)
            return await found.service.search(found.collection, query, request, found.hold(), slot)

        in_time, late = await search(Slot(end, end, end)), await search(LateSlot(end, end, end))
        with pytest.raises(DeadlineExceeded):
            await search(LateSlot(end, end, end), require_complete=True)
    assert [page.hits[0].snippets[0].basis for page in (in_time, late)] == ["words", "beginning"]
    notes = [[(note.stage, note.reason) for note in page.ranking.degraded] for page in (in_time, late)]
    assert notes == [[], [(DegradedStage.SNIPPETS, DegradationReason.TIMEOUT)]]
