"""A document has a mark in a snippet if any kind of term finds it, and none if its only term does not."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.text_query import Occurrence, Term, TermKind, TextQuery
from quarry.schema import Field, FieldType, Schema
from quarry.search.results.snippets import SnippetBasis, SnippetMaker, SnippetPlan, choose_all_texts
from quarry.types import Change, Docno, Fields
from quarry.vocabulary import SynonymRule, Vocabulary

SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, is_title=True),
        Field("texto", FieldType.TEXT, language="pt"),
        Field("text_zh", FieldType.TEXT, language="zh"),
    )
)
PLAN = SnippetPlan(choose_all_texts(SCHEMA, 200, 1))
WORDS = [
    "the",
    "of",
    "a",
    "red",
    "cow",
    "cows",
    "coffee",
    "brew",
    "cold",
    "configuration",
    "configured",
    "espresso",
    "expresso",
    "naïve",
    "café",
    "manutenção",
    "manutencao",
    "carros",
    "Äpfel",
    "it’s",
    "備份",
    "資料",
    "備份資料",
    "データベース",
    "🍕",
    "x1",
    "the",
]
KNOWN = Vocabulary((SynonymRule(("coffee", "cold brew")), SynonymRule(("carros", "vermelho"))), ("a",))
FIELDS = ["", "", "title", "texto"]
SPACES = [" ", " ", ", ", "\n"]


def write_documents(count: int) -> list[Fields]:
    """Writes documents of one to eight words in each field."""
    chosen = random.Random(18)

    def write() -> str:
        return "".join(chosen.choice(WORDS) + chosen.choice(SPACES) for _ in range(chosen.randint(1, 8)))

    return [{field.name: write() for field in SCHEMA.fields if chosen.random() < 0.7} for _ in range(count)]


DOCUMENTS = write_documents(150)
words = st.sampled_from(WORDS)
terms = st.one_of(
    st.builds(Term, words | st.lists(words, min_size=1, max_size=3).map(" ".join)),
    st.builds(
        Term, words, st.just(TermKind.WORDS), st.just(Occurrence.OPTIONAL), others=st.just(("cold brew",))
    ),
    st.builds(Term, st.lists(words, min_size=1, max_size=3).map(" ".join), st.just(TermKind.PHRASE)),
    st.builds(Term, words.map(lambda word: word[:3]), st.just(TermKind.PREFIX)),
    st.builds(
        Term, words.map(lambda word: word[:2] + word[3:]), st.just(TermKind.FUZZY), distance=st.integers(0, 2)
    ),
)
placed = st.builds(
    lambda term, field, occurs: replace(term, field=field, occurs=occurs),
    terms,
    st.sampled_from(FIELDS),
    st.sampled_from(Occurrence),
)


@pytest.fixture(scope="module")
def index() -> Iterator[TantivyIndex]:
    with TemporaryDirectory() as folder:
        index = TantivyIndex(Path(folder) / "i", "g", SCHEMA, heap_bytes=15_000_000)
        index.apply([Change(Docno(n), n + 1, fields) for n, fields in enumerate(DOCUMENTS)])
        index.commit(1)
        yield index
        index.close()


def list_marked(index: TantivyIndex, query: TextQuery) -> set[int]:
    """Lists the documents that have a snippet with the query's words."""
    maker = SnippetMaker(PLAN, index.rewrite_query(query), SCHEMA)
    marked = set[int]()
    for n, fields in enumerate(DOCUMENTS):
        for snippet in maker.make_snippets(fields):
            highlights = any(fragment.highlights for fragment in snippet.fragments)
            assert highlights == (snippet.basis is SnippetBasis.WORDS)
            marked.update([n] if highlights else [])
    return marked


@given(st.lists(placed, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, KNOWN]))
@example(terms=[Term("デーベース", TermKind.FUZZY, Occurrence.REQUIRED)], tolerates_typos=False, known=None)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_document_that_is_found_has_a_mark(
    index: TantivyIndex, terms: list[Term], tolerates_typos: bool, known: Vocabulary | None
) -> None:
    if all(term.occurs is Occurrence.EXCLUDED for term in terms):
        return
    query = TextQuery(tuple(terms), tolerates_typos, known)
    found = set(index.score_documents(query, [Docno(n) for n in range(len(DOCUMENTS))]))
    assert found <= list_marked(index, query)


@given(terms, st.sampled_from(FIELDS))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_document_that_one_term_does_not_find_has_none(index: TantivyIndex, term: Term, field: str) -> None:
    query = TextQuery((replace(term, field=field),))
    found = set(index.score_documents(query, [Docno(n) for n in range(len(DOCUMENTS))]))
    too_few = {n for n in list_marked(index, query) - found if not term.text.isascii()}  # pairs of a run
    assert list_marked(index, query) - found == too_few
