"""Documents a second, from the first byte sent until both arms find them, against the bare engines.

With encoding switched off (the vector cache has it all): against the slower of bare Tantivy and bare Qdrant
Edge on the same documents and vectors. With encoding on: against the bare encoder, which gets the same
passages as tokens, sorted by length, in batches of 512, on as many threads as there are cores.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import qdrant_edge as edge
import tantivy
from packed import PackedModel
from serving import (
    KEPT,
    available,
    corpus,
    create_collection,
    documents_of,
    load,
    load_average,
    reuse_models,
    server,
)
from synthetic import DIMENSION, Synthetic

from quarry.documents.catalog import PassagePolicy
from quarry.documents.passages import PassageCutter, SourceText, build_passage_texts
from quarry.models.encoder import load_encoder
from quarry.models.sources.resolve import DEFAULT_ENCODER

EDGE_BATCH = 256
TANTIVY_HEAP = 64_000_000


def tantivy_s(texts: Sequence[str], folder: Path) -> float:
    """Seconds to index ``texts`` and commit, with one indexing thread, as the server has."""
    folder.mkdir()
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("docno", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name="en_stem")
    index = tantivy.Index(builder.build(), path=str(folder))
    began = time.perf_counter()
    writer = index.writer(TANTIVY_HEAP, 1)
    for docno, text in enumerate(texts):
        document = tantivy.Document()
        document.add_integer("docno", docno)
        document.add_text("text", text)
        writer.add_document(document)
    writer.commit()
    index.reload()
    seconds = time.perf_counter() - began
    writer.wait_merging_threads()
    assert index.searcher().num_docs == len(texts)
    return seconds


def edge_s(synthetic: Synthetic, folder: Path) -> float:
    """Seconds to upsert the vectors with a payload and flush."""
    folder.mkdir()
    vectors = {"passage": edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Cosine)}
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=vectors))
    began = time.perf_counter()
    for start in range(0, len(synthetic.vectors), EDGE_BATCH):
        rows = synthetic.vectors[start : start + EDGE_BATCH].tolist()
        points = [
            edge.Point(number, {"passage": row}, {"docno": number})
            for number, row in enumerate(rows, start=start)
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    seconds = time.perf_counter() - began
    shard.close()
    return seconds


def without_encoding(count: int, rounds: int, seed: int) -> dict[str, float]:
    synthetic = Synthetic(count, seed)
    documents = synthetic.documents()
    served, lexical, dense, ratios = [], [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder, "data")
            data.mkdir()
            reuse_models(data)
            synthetic.fill_cache(data)
            lexical.append(count / tantivy_s(synthetic.texts, Path(folder, f"tantivy-{number}")))
            dense.append(count / edge_s(synthetic, Path(folder, f"edge-{number}")))
            with server(data) as running, load() as writer:
                with running.channel() as channel:
                    create_collection(channel)
                os.sync()  # what was written to prepare the run is not the server's to wait for
                served.append(count / writer.write(running.address, documents))
        ratios.append(served[-1] / min(lexical[-1], dense[-1]))
    return {
        "documents": count,
        "served_per_s": median(served),
        "bare_tantivy_per_s": median(lexical),
        "bare_edge_per_s": median(dense),
        "ratio": median(ratios),
    }


def with_encoding(name: str, count: int, rounds: int) -> dict[str, float]:
    records = corpus(name, count)
    encoder = load_encoder(DEFAULT_ENCODER, KEPT, "cpu")
    cutter = PassageCutter(encoder, PassagePolicy())
    sources = [SourceText.from_pieces(record.get("title", ""), [record["text"]]) for record in records]
    cuts = cutter.cut(sources)
    texts = [
        text for source, cut in zip(sources, cuts, strict=True) for text in build_passage_texts(source, cut)
    ]
    bare = PackedModel(KEPT, encoder.info.fingerprint)
    inputs = encoder.prepare(texts)
    served, bare_per_s, ratios = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as running, load() as writer:
            with running.channel() as channel:
                create_collection(channel)
            bare_per_s.append(count / bare.seconds(inputs))
            served.append(count / writer.write(running.address, documents_of(records), batch=100))
        ratios.append(served[-1] / bare_per_s[-1])
    return {
        "collection": name,
        "documents": count,
        "passages": len(texts),
        "served_per_s": median(served),
        "bare_encoder_per_s": median(bare_per_s),
        "ratio": median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=30_000, help="without encoding")
    parser.add_argument("--encoded", type=int, default=500, help="documents with encoding")
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    parts = {
        "ingest_without_encoding": lambda: without_encoding(
            arguments.documents, arguments.rounds, arguments.seed
        ),
        "ingest_with_encoding": lambda: with_encoding(
            available(arguments.collection), arguments.encoded, arguments.rounds
        ),
    }
    line: dict[str, object] = {"benchmark": "ingest"}
    for name, measure in parts.items():
        figures = measure()
        line[name] = {key: round(v, 3) if isinstance(v, float) else v for key, v in figures.items()}
    print(json.dumps({**line, "load_per_core": load_average()}))


if __name__ == "__main__":
    main()
