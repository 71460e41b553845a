"""Latency of Suggest while people type, over a real server and 100,000 short real texts.

Titles are those of six collections; what is missing to the number are short sentences and headings of the
same texts, each with the text that follows it. Keystrokes are simulated: a title, from its beginning or from
a word on, is typed up to a letter at random; one in six has a slip of the pen. Times are a client's, one call
at a time; ``cpu_ms`` is what a call costs the server.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from serving import (
    COLLECTION,
    COLLECTIONS,
    Record,
    Server,
    available,
    corpus,
    document,
    load,
    load_average,
    percentile,
    server,
)

from quarry.v1 import collection_service_pb2, search_service_pb2, types_pb2
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub

SUGGEST = "/quarry.v1.SearchService/Suggest"
NAMES = ("awsdocs", "medquad", "scifact", "trec-session-2012", "cranfield", "stackfaq-webapps")
SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
FEWEST_WORDS, MOST_WORDS = 3, 14
FOLLOWING = 600
"""Characters of the text behind a sentence that go with it."""
MOST_LETTERS = 30
SLIPS = 1 / 6


def make_records(count: int, seed: int) -> list[Record]:
    """Makes titles with texts, in a seeded order, each with the name of its collection."""
    names = [name for name in NAMES if (COLLECTIONS / name).is_dir()] or [available(NAMES[0])]
    titled, cut = [], []
    for name in names:
        for record in corpus(name, count):
            if record.get("title", "").strip():
                titled.append({"set": name, "title": record["title"], "text": record["text"]})
            cut += [{"set": name, "title": t, "text": rest} for t, rest in split_text(record["text"])]
    draw = random.Random(seed)
    draw.shuffle(cut)
    records = [*titled, *cut][:count]
    draw.shuffle(records)
    return records


def split_text(text: str) -> Iterator[tuple[str, str]]:
    """Splits off each short sentence or heading, with what follows it."""
    start = 0
    for gap in SENTENCE.finditer(text):
        sentence = text[start : gap.start()].strip()
        if FEWEST_WORDS <= len(sentence.split()) <= MOST_WORDS:
            yield sentence, text[gap.end() : gap.end() + FOLLOWING]
        start = gap.end()


def type_titles(titles: Sequence[str], count: int, draw: random.Random) -> list[str]:
    """Types the beginnings of titles, or of what follows in them."""
    typed = []
    for title in draw.choices(titles, k=count):
        words = title.split()
        text = " ".join(words[draw.choice((0, 0, draw.randrange(len(words)))) :])
        text = text[: draw.randint(1, min(MOST_LETTERS, len(text)))]
        typed.append(slip(text, draw) if draw.random() < SLIPS else text)
    return typed


def slip(text: str, draw: random.Random) -> str:
    """Loses, doubles, changes or swaps a letter."""
    at = draw.randrange(len(text))
    one, two = text[at : at + 1], text[at + 1 : at + 2]
    return text[:at] + draw.choice((two, one * 2 + two, "e" + two, two + one)) + text[at + 2 :]


def make_requests(typed: Sequence[str], hides: str = "") -> list[bytes]:
    requests = []
    for text in typed:
        request = search_service_pb2.SuggestRequest(collection=COLLECTION, text=text)
        if hides:
            request.filter.none_of.filters.add().equal_to.field = "set"
            request.filter.none_of.filters[0].equal_to.value.string_value = hides
        if text.strip():
            requests.append(request.SerializeToString())
    return requests


def create_filterable(channel: grpc.Channel) -> None:
    pb = collection_service_pb2
    fields = [
        pb.SchemaField(name="title", type=pb.SCHEMA_FIELD_TYPE_TEXT, is_title=True, boost=0.3),
        pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT),
        pb.SchemaField(name="set", type=pb.SCHEMA_FIELD_TYPE_KEYWORD),
    ]
    collection = pb.Collection(name=COLLECTION, encoder="none", schema=pb.Schema(fields=fields))
    stub = CollectionServiceStub(channel)
    stub.CreateCollection(pb.CreateCollectionRequest(collection=collection))


def read_memory(running: Server) -> float:
    """Reads the server's own memory in MB, without the files that it maps."""
    memory = running.process.memory_info()
    return float(memory.rss - memory.shared) / 1e6


def measure(count: int, calls: int, seed: int, folder: Path) -> dict[str, object]:
    records = make_records(count, seed)
    documents = []
    for number, record in enumerate(records):
        made = document(str(number), record["title"], record["text"])
        made.fields["set"].CopyFrom(types_pb2.FieldValue(string_value=record["set"]))
        documents.append(made)
    draw = random.Random(seed + 1)
    typed = type_titles([record["title"] for record in records], calls, draw)
    kinds = {
        "all": make_requests(typed),
        "filtered": make_requests(typed, hides="awsdocs"),
        "two_letters_at_most": make_requests([text[:2] for text in typed]),
    }
    line: dict[str, object] = {"documents": len(documents), "calls": calls}
    with server(folder) as running, load() as client:
        with running.channel() as channel:
            create_filterable(channel)
        line["indexed_per_s"] = round(len(documents) / client.write(running.address, documents))
        before = read_memory(running)
        began = time.perf_counter()
        client.send(running.address, SUGGEST, make_requests(["first"]), 1)
        line["filled_s"] = round(time.perf_counter() - began, 1)
        for name, requests in kinds.items():
            client.send(running.address, SUGGEST, requests[:300], 1)
            cpu = running.cpu_s()
            times = client.send(running.address, SUGGEST, requests, 1)
            line[name] = {
                "p50_ms": round(percentile(times, 0.5) * 1e3, 2),
                "p95_ms": round(percentile(times, 0.95) * 1e3, 2),
                "p99_ms": round(percentile(times, 0.99) * 1e3, 2),
                "cpu_ms": round((running.cpu_s() - cpu) * 1e3 / len(requests), 2),
            }
        line["memory_added_mb"] = round(read_memory(running) - before, 1)
        index = [
            path.stat().st_size for path in folder.glob("collections/*/*/suggestions/*") if path.is_file()
        ]
        line["index_mb"] = round(sum(index) / 1e6, 1)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments.documents, arguments.calls, arguments.seed, Path(folder))
    print(json.dumps({"benchmark": "suggest", **figures, "load_per_core": load_average()}))


if __name__ == "__main__":
    main()
