"""Models are swapped under load: no call fails, and no answer mixes two of them."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from tests.integration.api.helpers.models import Models, tiny_reranker
from tests.integration.api.helpers.served import Api, served, tiny_settings

from quarry.models.blend import Blend, read_blend
from quarry.models.cross_encoder import load_cross_encoder
from quarry.v1 import search_service_pb2

CLIENTS = 16
SWAPS = 50
FRESH_EVERY = 10
"""Every so many swaps the model was registered just then, so that some are loaded and unloaded."""
SETTLED_AFTER = 12
WORDS = ("rata", "neli", "sopu", "tige", "bade", "fimo")
DOCUMENTS = {
    f"d{n}": f"{WORDS[n % 6]} of the {WORDS[n % 5]} {WORDS[n % 4]} " * (1 + n % 3) for n in range(12)
}
QUERIES = [f"the {a} {b}" for a in WORDS[:3] for b in WORDS[3:]]

Scores = Mapping[tuple[str, str], float]


@dataclass
class Traffic:
    """What clients were answered.

    Attributes:
        folders: by version, the folder that it was made of.
    """

    api: Api
    scores: Mapping[Path, Scores]
    blends: Mapping[Path, Blend]
    folders: dict[str, Path] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, client: int) -> None:
        number = client
        while not self.over.is_set():
            query = QUERIES[number % len(QUERIES)]
            number += 1
            try:
                answer = self.api.search(
                    "faq", query, explain=True, page_size=20, require_complete=True, unlogged=True
                )
                self.check(query, answer)
            except Exception as error:  # noqa: BLE001  whatever it is, it must not be
                self.wrong.append(f"{type(error).__name__}: {error}")

    def check(self, query: str, answer: search_service_pb2.SearchResponse) -> None:
        self.answers[answer.reranker] += 1
        folder = self.folders[answer.reranker]
        expected, blend = self.scores[folder], self.blends[folder]
        if not answer.hits:
            self.wrong.append(f"{query} found nothing")
        for hit in answer.hits:
            raw, fused = hit.explanation.rerank_score, hit.explanation.fused_score
            if abs(raw - expected[query, hit.document.id]) > 1e-4:
                self.wrong.append(f"{answer.reranker} did not give {raw} to {hit.document.id}")
            if hit.explanation.raw_score != blend.score(raw, fused):
                self.wrong.append(f"{hit.explanation.raw_score} is not the blend of {raw} and {fused}")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        tiny_reranker(tmp_path / "first", seed=21),
        tiny_reranker(tmp_path / "second", seed=22, blend=Blend(rerank=0.5, fused=3)),
    ]


def scores_of(folder: Path, data: Path) -> Scores:
    pairs = [(query, id, text) for query in QUERIES for id, text in DOCUMENTS.items()]
    model = load_cross_encoder(str(folder), data, "cpu")
    found = model.score([(query, text.strip()) for query, _, text in pairs])
    return {(query, id): score.score for (query, id, _), score in zip(pairs, found, strict=True)}


def test_swaps_under_load_fail_no_call_and_mix_no_models(folders: list[Path], tmp_path: Path) -> None:
    scores = {folder: scores_of(folder, tmp_path / "scores") for folder in folders}
    first, second = (scores[folder] for folder in folders)
    assert min(abs(first[pair] - second[pair]) for pair in first) > 1e-3  # a mixture would show
    settings = tiny_settings(
        tmp_path / "data",
        tmp_path / "no-encoder",
        search={"score_cache_bytes": 0},  # every answer runs its model
    )
    with served(settings) as api:
        api.create("faq", encoder="none")
        api.upsert("faq", {id: {"text": text} for id, text in DOCUMENTS.items()})
        models = Models(api)
        traffic = Traffic(api, scores, {folder: read_blend(folder) for folder in folders})
        names = [models.imported("faq", folder).name for folder in folders]
        traffic.folders |= zip(names, folders, strict=True)
        models.promote(names[0])
        clients = [threading.Thread(target=traffic.run, args=(n,)) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        settled_bytes, settled_threads = 0, 0
        try:
            for swap in range(SWAPS):
                turn = (swap + 1) % 2
                if swap % FRESH_EVERY == FRESH_EVERY - 1:
                    names[turn] = models.imported("faq", folders[turn]).name
                    traffic.folders[names[turn]] = folders[turn]
                before = sum(traffic.answers.values())
                assert models.promote(names[turn]).previous == names[1 - turn]
                while sum(traffic.answers.values()) < before + CLIENTS and not traffic.wrong:
                    threading.Event().wait(0.001)
                if swap == SETTLED_AFTER:
                    settled_bytes, settled_threads = used()
        finally:
            traffic.over.set()
            for client in clients:
                client.join()
        ended_bytes, ended_threads = used()
    assert not traffic.wrong, traffic.wrong[:5]
    assert set(traffic.answers) == set(traffic.folders)
    assert sum(traffic.answers.values()) >= SWAPS * CLIENTS
    assert ended_bytes < 1.1 * settled_bytes
    assert ended_threads - settled_threads <= 8  # two more models may be idle


def used() -> tuple[int, int]:
    """Bytes of memory and threads of this process, the server's included."""
    process = psutil.Process()
    return process.memory_info().rss, process.num_threads()
