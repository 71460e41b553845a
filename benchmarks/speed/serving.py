"""What the benchmarks of a whole server share: a server process, its CPU time, load from another process."""

import asyncio
import gzip
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import psutil

from quarry.config import MAX_MESSAGE_BYTES
from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2,
    search_service_pb2,
    types_pb2,
)

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT.parent / "shared" / "data"
SAMPLE = ROOT / "examples" / "data" / "stackfaq-webapps"
KEPT = ROOT / "build" / "benchmarks"
"""Exported models and vectors from earlier runs, so that a run need not encode what another one has."""
COLLECTION = "bench"
SEARCH = "/quarry.v1.SearchService/Search"
UPSERT = "/quarry.v1.DocumentService/BatchUpsertDocuments"
UPSERT_STREAM = "/quarry.v1.DocumentService/UpsertDocuments"
GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

Record = dict[str, str]


def corpus(name: str, limit: int) -> list[Record]:
    """The first documents of a BEIR-style collection."""
    return list(itertools.islice(_lines(name, "corpus.jsonl"), limit))


def queries(name: str, seed: int) -> list[str]:
    """All queries of a collection, each once, in a seeded order."""
    texts = list(dict.fromkeys(record["text"] for record in _lines(name, "queries.jsonl")))
    random.Random(seed).shuffle(texts)
    return texts


def available(name: str) -> str:
    """``name`` if that collection is there, else the sample that ships with Quarry."""
    return name if (COLLECTIONS / name).is_dir() else SAMPLE.name


def _lines(name: str, file: str) -> Iterator[Record]:
    folder = SAMPLE if name == SAMPLE.name else COLLECTIONS / name
    zipped = folder / f"{file}.gz"
    with gzip.open(zipped, "rt", encoding="utf-8") if zipped.exists() else (folder / file).open() as lines:
        for line in lines:
            yield json.loads(line)


def documents_of(records: Sequence[Record]) -> list[types_pb2.Document]:
    return [document(record["_id"], record.get("title", ""), record["text"]) for record in records]


def document(id: str, title: str, text: str) -> types_pb2.Document:
    fields = {"title": title, "text": text}
    values = {name: types_pb2.FieldValue(string_value=value) for name, value in fields.items() if value}
    return types_pb2.Document(id=id, fields=values)


def search_request(query: str) -> bytes:
    request = search_service_pb2.SearchRequest(collection=COLLECTION, query=query)
    request.rerank.disabled = True
    return request.SerializeToString()


@dataclass(frozen=True, slots=True)
class Server:
    """A running ``quarry serve``.

    Attributes:
        data: its folder.
        address: where it listens.
        process: the server; its dense store is a child of it.
    """

    data: Path
    address: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds of the server and its children so far."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.address, options=GRPC_OPTIONS) as channel:
            yield channel


def reuse_models(data: Path) -> None:
    """Gives ``data`` the models that earlier runs exported."""
    if (KEPT / "models").is_dir() and not (data / "models").exists():
        shutil.copytree(KEPT / "models", data / "models")


@contextmanager
def server(data: Path) -> Iterator[Server]:
    """A server on ``data``, with the models of earlier runs; ended with SIGTERM."""
    reuse_models(data)
    command = [sys.executable, "-m", "quarry_cli", "serve", "--data", str(data), "--port", "0"]
    with (data / "server.log").open("wb") as log:
        environment = {"QUARRY_DRAIN_NOTICE_S": "0", **os.environ}  # nobody balances calls to this server
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("quarry: listening on "), (data / "server.log").read_text()
    try:
        yield Server(data, line.split()[-1], psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
    if not (KEPT / "models").exists() and (data / "models").exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data / "models", KEPT / "models")


def create_collection(channel: grpc.Channel, encoder: str = "") -> None:
    stub = collection_service_pb2_grpc.CollectionServiceStub(channel)
    collection = collection_service_pb2.Collection(name=COLLECTION, encoder=encoder)
    stub.CreateCollection(collection_service_pb2.CreateCollectionRequest(collection=collection))


class Load:
    """A process that sends requests, all of them serialized before the clock runs. Made by ``load``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, address: str, method: str, requests: Sequence[bytes], clients: int) -> list[float]:
        """Sends each request once, from so many clients; seconds until each answer."""
        self._connection.send(("each", address, method, requests, clients))
        times_s: list[float] = self._connection.recv()
        return times_s

    def write(self, address: str, documents: Sequence[types_pb2.Document], batch: int = 500) -> float:
        """Streams documents; seconds until searches find all of them in both arms."""
        self.start_writing(address, documents, batch)
        return self.note_write()

    def start_writing(self, address: str, documents: Sequence[types_pb2.Document], batch: int = 500) -> None:
        *stream, last = _upserts(documents, batch)
        self._connection.send(("write", address, stream, last))

    def note_write(self) -> float:
        """What ``write`` gives, of the documents that ``start_writing`` was given."""
        seconds: float = self._connection.recv()
        return seconds

    def start(self, address: str, method: str, requests: Sequence[bytes], pause_s: float) -> None:
        """Sends requests over and over from one client, until ``stop``."""
        self._connection.send(("repeat", address, method, requests, pause_s))

    def stop(self) -> list[float]:
        """Seconds until the answer, of each request since ``start``."""
        self._connection.send("stop")
        times_s: list[float] = self._connection.recv()
        return times_s


def _upserts(documents: Sequence[types_pb2.Document], batch: int) -> list[bytes]:
    """The messages of a stream, and last a call that waits until searches find everything."""
    batches = [documents[start : start + batch] for start in range(0, len(documents), batch)]
    config = document_service_pb2.UpsertDocumentsConfig(collection=COLLECTION)
    messages = [document_service_pb2.UpsertDocumentsRequest(config=config)]
    for some in batches[:-1]:
        written = document_service_pb2.UpsertDocumentsBatch(documents=some)
        messages.append(document_service_pb2.UpsertDocumentsRequest(batch=written))
    last = document_service_pb2.BatchUpsertDocumentsRequest(
        collection=COLLECTION,
        documents=batches[-1],
        wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE,
    )
    return [*(message.SerializeToString() for message in messages), last.SerializeToString()]


@contextmanager
def load() -> Iterator[Load]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_load, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Load(ours)
    finally:
        ours.close()
        process.join(10)


def _load(connection: Connection) -> None:
    asyncio.run(_serve_load(connection))


async def _serve_load(connection: Connection) -> None:
    channels: dict[str, grpc.aio.Channel] = {}
    while True:
        try:
            kind, address, *arguments = await asyncio.to_thread(connection.recv)
        except EOFError:
            break
        if address not in channels:
            channels[address] = grpc.aio.insecure_channel(address, options=GRPC_OPTIONS)
        channel = channels[address]
        match kind:
            case "each":
                connection.send(await _each_once(channel, *arguments))
            case "write":
                connection.send(await _write(channel, *arguments))
            case "repeat":
                connection.send(await _until_stopped(channel, *arguments, connection))
    for channel in channels.values():
        await channel.close()


async def _each_once(
    channel: grpc.aio.Channel, method: str, requests: Sequence[bytes], clients: int
) -> list[float]:
    call = channel.unary_unary(method)
    waiting = iter(requests)
    times_s: list[float] = []

    async def client() -> None:
        for request in waiting:
            began = time.perf_counter()
            await call(request)
            times_s.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return times_s


async def _write(channel: grpc.aio.Channel, stream: Sequence[bytes], last: bytes) -> float:
    began = time.perf_counter()
    async for _ in channel.stream_stream(UPSERT_STREAM)(iter(stream)):
        pass
    answer = await channel.unary_unary(UPSERT)(last, timeout=3_600)
    result = document_service_pb2.BatchUpsertDocumentsResponse.FromString(answer).result
    assert result.reached == document_service_pb2.WRITE_VISIBILITY_SEARCHABLE
    return time.perf_counter() - began


async def _until_stopped(
    channel: grpc.aio.Channel, method: str, requests: Sequence[bytes], pause_s: float, connection: Connection
) -> list[float]:
    call = channel.unary_unary(method)
    times_s: list[float] = []
    following = itertools.cycle(requests)
    while not connection.poll():
        began = time.perf_counter()
        await call(next(following))
        times_s.append(time.perf_counter() - began)
        await asyncio.sleep(pause_s)
    connection.recv()
    return times_s


@contextmanager
def echo_server(answer: bytes) -> Iterator[str]:
    """A process with a bare gRPC server that gives ``answer`` to every call: what a hop costs."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(theirs, answer), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join(10)


def _echo(connection: Connection, answer: bytes) -> None:
    async def run() -> None:
        async def reply(request: bytes, context: object) -> bytes:
            return answer

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
                return grpc.unary_unary_rpc_method_handler(reply)  # type: ignore[arg-type]

        aio = grpc.aio.server(handlers=[Handler()])
        port = aio.add_insecure_port("127.0.0.1:0")
        await aio.start()
        connection.send(f"127.0.0.1:{port}")
        await aio.wait_for_termination()

    asyncio.run(run())


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def load_average() -> float:
    """Of the last minute, per core: over 1 means that other programs took part of the machine."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
