"""Synonyms in queries: what is computed of a vocabulary, and how often."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarry.retrieval.lexical.analysis import QueryAnalyser
from quarry.retrieval.lexical.vocabulary_terms import arrange_terms
from quarry.retrieval.text_query import Term, TextQuery
from quarry.schema import DEFAULT_SCHEMA
from quarry.vocabulary import MAX_RULE_PHRASES, SynonymRule, Vocabulary

PHRASES = tuple(f"phrase {n}" for n in range(MAX_RULE_PHRASES))


def make_query(vocabulary: Vocabulary) -> TextQuery:
    return TextQuery((Term(PHRASES[0]),), vocabulary=vocabulary)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are cut whole, in order. At the first one its thread waits for another to come here."""
    texts: list[str] = []
    cut_whole = QueryAnalyser.cut_whole
    another = threading.Event()

    def cut_and_note(analyser: QueryAnalyser, text: str) -> object:
        texts.append(text)
        if len(texts) > 1:
            another.set()
        another.wait(0.1)
        return cut_whole(analyser, text)

    monkeypatch.setattr(QueryAnalyser, "cut_whole", cut_and_note)
    return texts


def test_searches_at_once_cut_each_phrase_once(cut: list[str]) -> None:
    query = make_query(Vocabulary((SynonymRule(PHRASES),)))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: arrange_terms(query, DEFAULT_SCHEMA), range(4)))
    assert [one.terms for one in found] == [(Term(PHRASES[0], others=PHRASES[1:]),)] * 4
    assert sorted(text for text in cut if text != PHRASES[0]) == sorted(PHRASES[1:])


def test_nothing_is_kept_of_a_vocabulary_that_is_gone() -> None:
    vocabulary = Vocabulary((SynonymRule(PHRASES),))
    gone = weakref.ref(vocabulary)
    arrange_terms(make_query(vocabulary), DEFAULT_SCHEMA)
    del vocabulary
    gc.collect()
    assert gone() is None
