"""The contract of ``quarry.retrieval.base.ExcerptIndex``."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from quarry.filters import EqualTo, Filter
from quarry.retrieval.base import Excerpt, ExcerptIndex, ExcerptQuery, Excerpts, TypedWord
from quarry.retrieval.lexical.analysis import build_stop_test
from quarry.schema import Field, FieldType, Schema, as_list
from quarry.search.suggesting import Suggesting, Suggestion, SuggestionKind, SuggestRequest
from quarry.types import Change, Docno, Document, Fields, Position

GENERATION = "g1"
SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, is_title=True),
        Field("text", FieldType.TEXT),
        Field("note", FieldType.TEXT, searchable=False),
        Field("tag", FieldType.KEYWORD),
    )
)
Reopen = Callable[[], ExcerptIndex]
TITLES, PHRASES = frozenset({SuggestionKind.TITLE}), frozenset({SuggestionKind.PHRASE})
IS_STOP = build_stop_test(frozenset({"en"}))

FIELDS: list[Fields] = [
    {
        "title": "Tuning Java memory",
        "text": "The memory model of Java. The memory model is hard.",
        "tag": "all",
    },
    {
        "title": "Java memory leaks",
        "text": "Read of the memory model, and the memory model's rules.",
        "tag": "few",
    },
    {"title": "Memory in Java and in C", "text": "A secret. Plan to win", "tag": "few"},
    {"title": "Crème brûlée", "text": "gestion de la mémoire vive", "tag": "all"},
    {"title": "Crème brûlée", "text": "La gestion de la mémoire", "note": "hidden words", "tag": "few"},
    {"title": "データベースの備份", "tag": "all"},
    {"title": "Ihr Weg zur Straße", "text": ["secret plan", "win win win"], "tag": "few"},
    {"title": "", "text": "a secret plan", "note": "hidden words", "tag": "few"},
    {"title": ["First of two", "second"], "text": "x" * 199 + " beyond the beginning"},
    {"title": "x" * 301, "text": "word " * 39 + "halfword beyond the beginning"},
]


def make_excerpt(number: int) -> Excerpt:
    """Makes what an index has of one of the ``FIELDS`` that are short enough to be there as a whole."""
    title, text = FIELDS[number]["title"], as_list(FIELDS[number]["text"])
    return Excerpt(Docno(number), number + 1, str(title), tuple(map(str, text)))


class LoggedDocuments:
    """The log of the contract: document n is called ``dn``, at version n + 1."""

    def __init__(self) -> None:
        self.missing: set[int] = set()

    def read_ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        return {n: (f"d{n}", n + 1) for n in docnos if n not in self.missing}

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]:
        raise AssertionError("suggestions read no whole documents")

    def find_docnos(self, ids: Collection[str]) -> Mapping[str, tuple[Docno, int]]:
        raise AssertionError("suggestions read no documents by their ids")


class ExcerptIndexContract:
    """The promises of every index of beginnings. Subclass it as ``Test...``, and write ``open_index``."""

    def open_index(self, folder: Path, schema: Schema) -> ExcerptIndex:
        """Opens the index of ``folder``, empty at first, with the generation ``GENERATION``.

        Once it is closed, the same folder gives the same index again, with all that was committed.
        """
        raise NotImplementedError

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return lambda: self.open_index(tmp_path, SCHEMA)

    @pytest.fixture
    def index(self, reopen: Reopen) -> Iterator[ExcerptIndex]:
        opened = reopen()
        opened.apply([Change(Docno(n), n + 1, fields) for n, fields in enumerate(FIELDS)])
        opened.commit(len(FIELDS))
        yield opened
        opened.close()

    @staticmethod
    def suggest(
        index: ExcerptIndex,
        typed: str,
        kinds: frozenset[SuggestionKind] = TITLES,
        filter: Filter | None = None,
        limit: int = 10,
        documents: LoggedDocuments | None = None,
    ) -> list[Suggestion]:
        request = SuggestRequest(typed, limit, filter, kinds)
        return Suggesting(index, documents or LoggedDocuments(), request, IS_STOP).suggest()

    def list_texts(self, *args: object, **settings: object) -> list[str]:
        return [found.text for found in self.suggest(*args, **settings)]  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("typed", "titles"),
        [
            ("java mem", ["Java memory leaks", "Tuning Java memory", "Memory in Java and in C"]),
            ("JAVA MEM", ["Java memory leaks", "Tuning Java memory", "Memory in Java and in C"]),
            ("java memory ", ["Java memory leaks", "Tuning Java memory", "Memory in Java and in C"]),
            ("java mem ", []),
            ("j", ["Java memory leaks", "Tuning Java memory", "Memory in Java and in C"]),
            ("me", ["Memory in Java and in C", "Java memory leaks", "Tuning Java memory"]),
            ("memory java", ["Java memory leaks", "Tuning Java memory", "Memory in Java and in C"]),
            ("creme br", ["Crème brûlée"]),
            ("Crème Brul", ["Crème brûlée"]),
            ("brûlée!", ["Crème brûlée"]),
            ("データ", ["データベースの備份"]),
            ("備", ["データベースの備份"]),
            ("備份の", ["データベースの備份"]),
            ("strasse", ["Ihr Weg zur Straße"]),
            ("stras", ["Ihr Weg zur Straße"]),
            ("first", ["First of two"]),
            ("second", []),
            ("xxxx", []),
            ("hidden", []),
        ],
    )
    def test_titles_complete_what_is_typed(self, index: ExcerptIndex, typed: str, titles: list[str]) -> None:
        found = self.list_texts(index, typed)
        assert sorted(found) == sorted(titles)
        assert found[:1] == titles[:1]

    @pytest.mark.parametrize(
        ("typed", "title"),
        [
            ("java memry", "Java memory leaks"),
            ("jaav mem", "Java memory leaks"),
            ("jva leaks", ""),
            ("tuninng java", "Tuning Java memory"),
            ("brulle", "Crème brûlée"),
            ("lfaks", "Java memory leaks"),
            ("lfakz", ""),
            ("wge", ""),
        ],
    )
    def test_a_word_of_four_letters_may_differ_by_one(
        self, index: ExcerptIndex, typed: str, title: str
    ) -> None:
        assert self.list_texts(index, typed)[:1] == [title][: len(title)]

    def test_what_is_typed_rightly_comes_before_what_is_not(self, reopen: Reopen) -> None:
        index = reopen()
        index.apply(
            [Change(Docno(n), n + 1, {"title": t}) for n, t in enumerate(["Maple", "Mapel tree", "Marel"])]
        )
        index.commit(3)
        assert self.list_texts(index, "mapel") == ["Mapel tree", "Maple", "Marel"]
        index.close()

    def test_highlights_are_what_is_typed_in_the_title_as_it_is_written(self, index: ExcerptIndex) -> None:
        for typed, parts in (
            ("mem", ["Mem"]),
            ("java in c", ["in", "Java", "C"]),
            ("creme brul", ["Crème", "brûl"]),
            ("タベー", ["タベー"]),
            ("weg zur strass", ["Weg", "zur", "Straß"]),
        ):
            first = self.suggest(index, typed)[0]
            assert [first.text[start:end] for start, end in first.highlights] == parts

    @pytest.mark.parametrize(
        ("typed", "phrases"),
        [
            ("mem", [("memory model", 2)]),
            ("memory", [("memory model", 2)]),
            ("memroy", [("memory model", 2)]),
            ("the memory", []),
            ("gestion", [("gestion de la mémoire", 2)]),
            ("gestion de la memoire", [("gestion de la mémoire", 2)]),
            ("secret", [("secret plan", 2)]),
            ("win", []),
            ("beyond", []),
            ("hidden", []),
            ("me", []),
        ],
    )
    def test_phrases_are_in_two_documents_and_have_no_stop_word_at_an_end(
        self, index: ExcerptIndex, typed: str, phrases: list[tuple[str, int]]
    ) -> None:
        found = self.suggest(index, typed, PHRASES)
        assert [(phrase.text, phrase.documents.count) for phrase in found] == phrases
        assert all(phrase.documents.exact and not phrase.document_id for phrase in found)

    def test_a_title_that_documents_share_makes_no_phrase(self, reopen: Reopen) -> None:
        index = reopen()
        index.apply([Change(Docno(n), n + 1, {"title": "Red iron kettle"}) for n in range(3)])
        index.commit(3)
        assert self.list_texts(index, "iron", PHRASES) == []
        index.apply([Change(Docno(3), 4, {"text": "an iron kettle"})])
        index.commit(4)
        assert self.list_texts(index, "iron", PHRASES) == ["iron kettle"]
        index.close()

    def test_only_what_passes_the_filter_is_read(self, index: ExcerptIndex) -> None:
        for_all = EqualTo("tag", "all")
        assert self.list_texts(index, "java", filter=for_all) == ["Tuning Java memory"]
        assert self.list_texts(index, "mem", PHRASES, for_all) == []
        assert self.list_texts(index, "secret", PHRASES, for_all) == []
        (creme,) = self.suggest(index, "cre", filter=for_all)
        assert (creme.documents.count, creme.document_id) == (1, "d3")
        (creme,) = self.suggest(index, "cre")
        assert (creme.documents.count, creme.documents.exact, creme.document_id) == (2, True, "d3")

    def test_what_the_log_no_longer_has_is_not_suggested(self, index: ExcerptIndex) -> None:
        documents = LoggedDocuments()
        documents.missing = {0, 3, 6}
        assert self.list_texts(index, "tun", documents=documents) == []
        assert self.list_texts(index, "secret", PHRASES, documents=documents) == []
        (creme,) = self.suggest(index, "cre", documents=documents)
        assert (creme.documents.count, creme.document_id) == (1, "d4")

    def test_changes_and_deletions_hold_after_the_index_is_opened_again(
        self, index: ExcerptIndex, reopen: Reopen
    ) -> None:
        index.apply([Change(Docno(1), 11, None), Change(Docno(0), 12, {"title": "Cooking"})])
        index.commit(12)
        index.close()
        again = reopen()
        assert again.position == Position(GENERATION, 12)
        assert self.list_texts(again, "java") == ["Memory in Java and in C"]
        assert self.list_texts(again, "mem", PHRASES) == []
        again.close()

    def test_a_query_gives_as_many_as_it_asks_for_and_says_how_many_match(self, index: ExcerptIndex) -> None:
        java = ExcerptQuery((TypedWord("java", True),), in_titles=True)
        found = index.find_excerpts(java, 10, None)
        assert found == Excerpts([make_excerpt(n) for n in (1, 0, 2)], 3), "the shortest title comes first"
        assert index.find_excerpts(java, 1, None) == Excerpts(found.found[:1], 3)
        assert index.find_excerpts(java, 10, EqualTo("tag", "all")) == Excerpts([make_excerpt(0)], 1)

    @pytest.mark.parametrize(
        ("words", "settings", "docnos"),
        [
            ("java memo", {}, {0, 1, 2}),
            ("java memo ", {}, set()),
            ("java lea", {}, {1}),
            ("java", {"begins": True}, {1}),
            ("j", {"begins": True}, {1}),
            ("model", {}, set()),
            ("model", {"in_titles": False}, {0, 1}),
            ("java model", {"in_titles": False}, {0, 1}),
            ("secret wi", {"in_titles": False}, {2, 6}),
            ("jova", {}, set()),
            ("jova", {"tolerant": True}, {0, 1, 2}),
            ("modle ", {"in_titles": False}, set()),
            ("modle ", {"in_titles": False, "tolerant": True}, {0, 1}),
            ("beyond", {"in_titles": False}, set()),
        ],
    )
    def test_a_query_finds_the_beginnings_with_all_its_words_and_no_others(
        self, index: ExcerptIndex, words: str, settings: dict[str, bool], docnos: set[int]
    ) -> None:
        typed = [TypedWord(word, True) for word in words.split()]
        typed[-1] = TypedWord(typed[-1].text, words.endswith(" "))
        query = ExcerptQuery(tuple(typed), **{"in_titles": True, **settings})
        found = index.find_excerpts(query, 10, None)
        assert sorted(found.found, key=lambda e: e.docno) == [make_excerpt(n) for n in sorted(docnos)]
        assert found.total == len(docnos)

    def test_repeated_titles_leave_room_for_others(self, reopen: Reopen) -> None:
        index = reopen()
        titles = ["Red shoe"] * 30 + ["Red shoelace", "Red shoe rack", "A red shoe"]
        index.apply([Change(Docno(n), n + 1, {"title": title}) for n, title in enumerate(titles)])
        index.commit(len(titles))
        found = self.suggest(index, "red sh", limit=4)
        assert [s.text for s in found] == ["Red shoe", "Red shoelace", "Red shoe rack", "A red shoe"]
        assert (found[0].documents.count, found[0].documents.exact) == (30, True)
        assert self.list_texts(index, "red sh", limit=1) == ["Red shoe"]
        index.close()

    @pytest.mark.parametrize(
        ("typed", "titles"),
        [
            (
                "c",
                [
                    "C++: why?",
                    "C generics",
                    "C# generics",
                    "C++ generics",
                    "Cooking",
                    "Notes on C++",
                    "Net cafe",
                ],
            ),
            ("c ", ["C++: why?", "C generics", "C# generics", "C++ generics", "Notes on C++"]),
            ("c+", ["C++: why?", "C++ generics", "Notes on C++"]),
            ("C++", ["C++: why?", "C++ generics", "Notes on C++"]),
            ("c++ g", ["C++ generics"]),
            ("c+ g", []),
            ("c#", ["C# generics"]),
            ("generics c#", ["C# generics"]),
            ("c++++", []),
            ("c gen", ["C generics", "C# generics", "C++ generics"]),
            ("net", ["Net cafe", ".NET tools"]),
            (".net", [".NET tools", "Net cafe"]),
            ("generics+c", ["C generics", "C# generics", "C++ generics"]),
        ],
    )
    def test_signs_after_a_word_are_part_of_what_is_typed(
        self, reopen: Reopen, typed: str, titles: list[str]
    ) -> None:
        index = reopen()
        titled = ["C# generics", "C++ generics", "C generics", "Cooking", "Notes on C++", "C++: why?"]
        titled += ["Net cafe", ".NET tools"]
        index.apply([Change(Docno(n), n + 1, {"title": title}) for n, title in enumerate(titled)])
        index.commit(len(titled))
        found = self.list_texts(index, typed)
        assert sorted(found) == sorted(titles)
        assert found[:1] == titles[:1]
        index.close()

    def test_no_phrase_stands_for_a_word_with_signs(self, reopen: Reopen) -> None:
        index = reopen()
        texts = ["learn c quickly", "we learn c now"]
        index.apply([Change(Docno(n), n + 1, {"text": text}) for n, text in enumerate(texts)])
        index.commit(len(texts))
        assert self.list_texts(index, "learn c", PHRASES) == ["learn c"]
        assert self.list_texts(index, "learn c++", PHRASES) == []
        index.close()

    def test_a_schema_without_text_suggests_nothing(self, tmp_path: Path) -> None:
        schema = Schema((Field("tag", FieldType.KEYWORD),))
        index = self.open_index(tmp_path / "bare", schema)
        index.apply([Change(Docno(0), 1, {"tag": "java"})])
        index.commit(1)
        assert self.list_texts(index, "java", TITLES | PHRASES) == []
        index.close()
