"""What the mining benchmarks share: a judged collection as a corpus, its members, and what to mine for."""

import gzip
import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quarry.documents.catalog import PassagePolicy
from quarry.documents.vector_cache import VectorCache
from quarry.models.encoder import load_encoder
from quarry.models.sources.resolve import DEFAULT_ENCODER
from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import Field, FieldType, Schema
from quarry.types import Change, Docno, Fields
from quarry_miner.corpus import Corpus
from quarry_miner.job.task_builder import Sources
from quarry_miner.members.members import Listed

COLLECTIONS = Path(__file__).resolve().parents[3] / "shared" / "data"
SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "data"
SCHEMA = Schema((Field("title", FieldType.TEXT, is_title=True), Field("text", FieldType.TEXT)))
MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Judged:
    """A collection with judgments.

    Attributes:
        documents: id and fields.
        queries: text by id, of those with a judgment.
        positives: ids of relevant documents by query.
    """

    name: str
    documents: list[tuple[str, Fields]]
    queries: dict[str, str]
    positives: dict[str, list[str]]


def read_judged(
    name: str, qrels: str = "qrels.tsv", with_title: bool = True, folder: Path | None = None
) -> Judged:
    """A BEIR-style collection: a test collection, or the sample that ships with Quarry."""
    if folder is None:
        folder = COLLECTIONS / name if (COLLECTIONS / name).is_dir() else SAMPLE / name
    documents: list[tuple[str, Fields]] = []
    for line in _lines(folder / "corpus.jsonl"):
        record = json.loads(line)
        fields: Fields = {"text": record["text"]}
        if with_title and record.get("title"):
            fields["title"] = record["title"]
        documents.append((record["_id"], fields))
    texts = {record["_id"]: record["text"] for record in map(json.loads, _lines(folder / "queries.jsonl"))}
    known = {id for id, _ in documents}
    positives: dict[str, list[str]] = {}
    for line in (folder / qrels).read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0 and query in texts and document in known:
            positives.setdefault(query, []).append(document)
    return Judged(name, documents, {query: texts[query] for query in positives}, positives)


def _lines(file: Path) -> list[str]:
    zipped = file.with_name(file.name + ".gz")
    text = gzip.decompress(zipped.read_bytes()).decode() if zipped.exists() else file.read_text()
    return text.splitlines()


class LexicalMember:
    """Searches an index whose docnos are the corpus's numbers plus 1, as ``index_corpus`` fills it."""

    name = "bm25"

    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        rows = []
        for query in queries:
            found = self._index.search(query, depth, None).candidates
            rows.append(([c.docno - 1 for c in found], [c.score for c in found]))
        return Listed.from_rows(rows, depth)


def index_corpus(index: LexicalIndex, corpus: Corpus) -> None:
    """Puts every document of the corpus into an empty index."""
    number = 0
    for batch in corpus.iterate_batches():
        index.apply([Change(Docno(number + i + 1), 1, fields) for i, fields in enumerate(batch)])
        number += len(batch)
    index.commit(1)


def sources_of(judged: Judged, data: Path, one_vector: bool = False, lexical: bool = True) -> Sources:
    """All that a collection with the default encoder has; vectors and models are kept under ``data``."""
    data.mkdir(parents=True, exist_ok=True)
    corpus = Corpus.from_documents(judged.documents, SCHEMA)
    member = None
    if lexical:
        index = TantivyIndex(Path(tempfile.mkdtemp()), "bench", SCHEMA)
        index_corpus(index, corpus)
        member = LexicalMember(index)
    return Sources(
        corpus=corpus,
        cache=VectorCache(data / "vectors.db"),
        encoder=load_encoder(DEFAULT_ENCODER, data),
        policy=PassagePolicy(MAX_TOKENS, first_only=one_vector),
        load_encoder=lambda name: load_encoder(name, data),
        lexical=member,
    )


def hashed(text: str) -> int:
    """The same number for the same text on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
