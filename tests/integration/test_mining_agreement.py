"""On the shipped sample, the rules that sentence-transformers has too choose what it chooses."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks" / "learning"
DOCUMENTS, QUERIES = 80, 60

pytestmark = [
    # Theirs to see to: sentence-transformers, datasets and what they import.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def agreement(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark's module, whose comparison this is."""
    pytest.importorskip("datasets", reason="needs sentence-transformers and datasets")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("mining_agreement")
    for name in ("mining_agreement", "mining_data"):
        sys.modules.pop(name, None)


def test_margins_and_shifts_choose_what_sentence_transformers_chooses(
    agreement: ModuleType, tmp_path: Path
) -> None:
    data = importlib.import_module("mining_data")
    whole = data.read_judged(
        "stackfaq-webapps", folder=data.SAMPLE / "stackfaq-webapps", qrels="qrels/train.tsv"
    )
    documents = whole.documents[:DOCUMENTS]
    known = {id for id, _ in documents}
    positives = {
        query: found for query, ids in whole.positives.items() if (found := [id for id in ids if id in known])
    }
    # One positive each: of several sentence-transformers measures by the least similar.
    chosen = {query: found[:1] for query, found in list(positives.items())[::5][:QUERIES]}
    judged = data.Judged(whole.name, documents, {id: whole.queries[id] for id in chosen}, chosen)
    sources = data.sources_of(judged, tmp_path, one_vector=True, lexical=False)
    theirs = agreement.Theirs(tmp_path / "theirs", max_tokens=256)
    for rule in agreement.RULES:
        found = agreement.compared(judged, sources, theirs, rule)
        assert found["rows"] == len(chosen)
        assert found["same"] >= 0.99, found
        assert "other" not in found["different"], found
    sources.cache.close()
