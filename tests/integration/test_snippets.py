"""Snippets of real documents show a word of the query wherever BM25 finds one."""

import gzip
import itertools
import json
import random
from pathlib import Path

import pytest

from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import DEFAULT_SCHEMA
from quarry.search.results.snippets import SnippetBasis, SnippetMaker, SnippetPlan, choose_all_texts
from quarry.types import Change, Docno, Fields

DATA = Path(__file__).parents[3] / "shared" / "data" / "awsdocs"
PAIRS = 1_000
EVERY = 5
"""One document of so many is indexed: all of them take half a minute."""

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"there is no collection awsdocs at {DATA}")


def read_documents() -> list[Fields]:
    with gzip.open(DATA / "corpus.jsonl.gz", "rt") as lines:
        records = [json.loads(line) for line in itertools.islice(lines, 0, None, EVERY)]
    return [{"title": record["title"], "text": record["text"]} for record in records]


def test_a_snippet_shows_a_word_of_the_query_if_the_document_has_one(tmp_path: Path) -> None:
    documents = read_documents()
    queries = [json.loads(line)["text"] for line in (DATA / "queries.jsonl").read_text().splitlines()]
    index = TantivyIndex(tmp_path, "g", DEFAULT_SCHEMA)
    index.apply([Change(Docno(n), n + 1, fields) for n, fields in enumerate(documents)])
    index.commit(len(documents))
    chosen = random.Random(16)
    having = 0
    for _ in range(PAIRS):
        query = chosen.choice(queries)
        hits = [candidate.docno for candidate in index.search(query, 100, None).candidates]
        docno = Docno(chosen.choice([*hits, chosen.randrange(len(documents))]))
        maker = SnippetMaker(SnippetPlan(choose_all_texts(DEFAULT_SCHEMA, 200, 1)), query, DEFAULT_SCHEMA)
        snippets = maker.make_snippets(documents[docno])
        shown = any(snippet.basis is SnippetBasis.WORDS for snippet in snippets)
        assert shown == bool(index.score_documents(query, [docno])), (query, documents[docno]["title"])
        assert all(f.highlights for s in snippets if s.basis is SnippetBasis.WORDS for f in s.fragments)
        having += shown
    assert having > PAIRS * 0.9
    index.close()
