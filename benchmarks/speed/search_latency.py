"""`Search` over gRPC against its bare parts: encoding the query, Tantivy and Qdrant Edge in one process.

One client: the median of an answer against the sum of the parts' medians, and one gRPC hop between processes,
measured beside it with answers of the same size. 32 clients: CPU seconds a query of all server processes
against the parts' CPU seconds. Both sides have copies of the same indexes, run the model with the same
settings, fetch 100 candidates an arm, and are asked in turns; no query is asked twice of either in one run.
"""

import quarry as quarry  # forbids telemetry before a library is imported

# isort: split
import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import onnxruntime
import qdrant_edge as edge
import tantivy
from serving import (
    KEPT,
    SEARCH,
    Server,
    available,
    corpus,
    create_collection,
    documents_of,
    echo_server,
    load,
    load_average,
    queries,
    search_request,
    server,
)
from tokenizers import Tokenizer

from quarry.retrieval.lexical.tantivy_query import TextQueryBuilder
from quarry.schema import DEFAULT_SCHEMA

DEPTH = 100
BLOCK = 20
CLIENTS = 32


class BareParts:
    """The engines alone, on copies of a server's indexes."""

    def __init__(self, data: Path, folder: Path) -> None:
        (generation,) = data.glob("collections/*/*/bm25")
        shutil.copytree(generation, folder / "bm25")
        (shard,) = generation.parent.glob("dense/shard-*")
        shutil.copytree(shard, folder / "dense")
        index = tantivy.Index.open(str(folder / "bm25"))
        self._queries = TextQueryBuilder(DEFAULT_SCHEMA, index.schema)
        self._searcher = index.searcher()
        self._shard = edge.EdgeShard.load(str(folder / "dense"))
        (model,) = data.glob("models/*/model.onnx")
        self._tokenizer = Tokenizer.from_file(str(model.with_name("tokenizer.json")))
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])

    def times_s(self, query: str) -> tuple[float, float, float]:
        """Seconds of encoding, of BM25 and of the nearest vectors, one after another."""
        began = time.perf_counter()
        vector = self._encode(query)
        encoded = time.perf_counter()
        self._lexical(query)
        searched = time.perf_counter()
        nearest = edge.Query.Nearest(vector, "passage")
        hits = [(hit.id, hit.score) for hit in self._shard.query(edge.QueryRequest(DEPTH, query=nearest))]
        assert len(hits) == DEPTH
        return encoded - began, searched - encoded, time.perf_counter() - searched

    def _encode(self, query: str) -> list[float]:
        tokens = self._tokenizer.encode(query)
        inputs = {"input_ids": [tokens.ids], "attention_mask": [tokens.attention_mask]}
        names = {one.name for one in self._session.get_inputs()}
        if "token_type_ids" in names:
            inputs["token_type_ids"] = [tokens.type_ids]
        vector: list[float] = self._session.run(None, inputs)[0][0].tolist()
        return vector

    def _lexical(self, query: str) -> list[tuple[float, int]]:
        parsed = self._queries.make_query(self._searcher, self._queries.list_clauses(query))
        hits = self._searcher.search(parsed, DEPTH).hits
        docnos = self._searcher.fast_field_values("_docno", [address for _, address in hits])
        return [(score, int(docno or 0)) for (score, _), docno in zip(hits, docnos, strict=True)]


def measure(running: Server, bare: BareParts, texts: list[str], rounds: int) -> dict[str, float]:
    blocks = [texts[start : start + BLOCK] for start in range(0, len(texts) - BLOCK + 1, BLOCK)]
    alone, crowded = blocks[: len(blocks) // 3], texts[len(blocks) // 3 * BLOCK :]
    served_s: list[float] = []
    hop_s: list[float] = []
    parts_s: list[tuple[float, float, float]] = []
    with load() as sender, running.channel() as channel:
        size = len(channel.unary_unary(SEARCH)(search_request(alone[0][0])))
        with echo_server(bytes(size)) as echo:
            for block in alone:
                requests = [search_request(text) for text in block]
                served_s += sender.send(running.address, SEARCH, requests, 1)
                hop_s += sender.send(echo, SEARCH, requests, 1)
                parts_s += [bare.times_s(text) for text in block]
        each = len(crowded) // rounds
        cpu_ratios, throughputs, cpu_ms = [], [], []
        for some in (crowded[number * each : (number + 1) * each] for number in range(rounds)):
            cpu, began = running.cpu_s(), time.perf_counter()
            sender.send(running.address, SEARCH, [search_request(text) for text in some], CLIENTS)
            seconds, served_cpu = time.perf_counter() - began, running.cpu_s() - cpu
            cpu = time.process_time()
            for text in some:
                bare.times_s(text)
            cpu_ratios.append(served_cpu / (time.process_time() - cpu))
            throughputs.append(each / seconds)
            cpu_ms.append(1e3 * served_cpu / each)
    parts = [median(one) for one in zip(*parts_s[BLOCK:], strict=True)]
    served, hop, total = median(served_s[BLOCK:]), median(hop_s[BLOCK:]), median(map(sum, parts_s[BLOCK:]))
    return {
        "served_p50_ms": 1e3 * served,
        "bare_p50_ms": 1e3 * total,
        "bare_encode_ms": 1e3 * parts[0],
        "bare_bm25_ms": 1e3 * parts[1],
        "bare_dense_ms": 1e3 * parts[2],
        "hop_ms": 1e3 * hop,
        "ratio": (served - hop) / total,
        "cpu_ms_32_clients": median(cpu_ms),
        "cpu_ratio_32_clients": median(cpu_ratios),
        "queries_per_s_32_clients": median(throughputs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", default="scifact")
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5, help="of the 32 clients")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name = available(arguments.collection)
    records = corpus(name, arguments.documents)
    kept = KEPT / f"vectors-{name}.db"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        if kept.exists():
            shutil.copyfile(kept, data / "vectors.db")
        with server(data) as running:
            with running.channel() as channel:
                create_collection(channel)
            with load() as writer:
                writer.write(running.address, documents_of(records))
            time.sleep(2)  # the dense store flushes a second after the last write
            bare = BareParts(data, Path(folder))
            found = measure(running, bare, queries(name, arguments.seed), arguments.rounds)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / "vectors.db", kept)
    figures = {key: round(value, 3) for key, value in found.items()}
    line = {"benchmark": "search_latency", "collection": name, "documents": len(records), **figures}
    print(json.dumps({**line, "load_per_core": load_average()}))


if __name__ == "__main__":
    main()
