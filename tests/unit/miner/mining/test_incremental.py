"""Mining goes on where it was killed, and mines again only what has changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.miner.mining.seeded import seeded_queries, seeded_texts, task_of

from quarry.mining.presets import DRAWS_FROM_CORPUS, DRAWS_FROM_REQUEST, READS_SCORES
from quarry.mining.sets import EXAMPLES, WorkMark
from quarry_miner.evidence.pair_evidence import Seen
from quarry_miner.mining.candidates import Gathered, Gatherer
from quarry_miner.mining.earlier_set import EarlierSet, Lineage, write_lineage
from quarry_miner.mining.example_tables import make_table, write_set
from quarry_miner.mining.incremental import IncrementalMining, NegativeChoice
from quarry_miner.mining.mining import mine
from quarry_miner.mining.task import MiningTask
from quarry_miner.mining.work import Work
from quarry_miner.presets.registry import PRESETS, make_preset

MARK = WorkMark(collection_key=1, from_feedback=False)
Versions = Mapping[str, int]


class Killed(Exception):
    pass


def run(
    folder: Path,
    task: MiningTask,
    preset: str = "perc-pos",
    versions: Versions | None = None,
    earlier: EarlierSet | None = None,
    kill_at: int | None = None,
) -> Work:
    work = Work(folder, MARK)

    def progress(done: int, _total: int) -> None:
        if kill_at is not None and done >= kill_at:
            raise Killed

    choice = NegativeChoice(make_preset(preset), 5, 3)
    IncrementalMining(task, choice, preset, versions or {}, earlier).run(work, progress)
    return work


def rows(work: Work) -> list[dict[str, Any]]:
    return list(pa.concat_tables(work.read_tables()).to_pylist())


def finished(folder: Path, work: Work) -> EarlierSet:
    folder.mkdir()
    write_set(folder / EXAMPLES, work.read_tables(), {})
    write_lineage(folder, Lineage(request="same"), work.read_queries())
    return EarlierSet(folder)


def test_an_earlier_set_with_a_changed_page_is_not_built_on(tmp_path: Path) -> None:
    texts = seeded_texts(60)
    earlier = finished(tmp_path / "set", run(tmp_path / "work", task_of(texts, seeded_queries(texts, 40))))
    file = earlier.folder / EXAMPLES
    content = bytearray(file.read_bytes())
    page = earlier._file.metadata.row_group(0).column(3).data_page_offset
    content[page + 60] ^= 1
    file.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        EarlierSet(earlier.folder)


def reused(work: Work) -> set[str]:
    return {query.query_id for query in work.read_queries() if query.reused}


def test_a_job_gives_what_mining_in_one_go_gives(tmp_path: Path) -> None:
    texts = seeded_texts(150)
    task = task_of(texts, seeded_queries(texts, 100))
    for preset in ("perc-pos", "quarry", "random", "in-batch"):
        whole = mine(task, make_preset(preset), 5, 3)
        work = run(tmp_path / preset, task, preset)
        assert rows(work) == make_table(whole.examples).to_pylist()
        assert sum(query.pairs for query in work.read_queries()) == whole.pairs
        assert sum(query.covered for query in work.read_queries()) == whole.covered
        assert sum(query.positive_first for query in work.read_queries()) == whole.positive_first


def test_a_job_killed_at_any_block_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    texts = seeded_texts(150)
    task = task_of(texts, seeded_queries(texts, 140))
    whole = rows(run(tmp_path / "whole", task))
    random = Random(7)
    folder = tmp_path / "killed"
    for kill_at in sorted(random.sample(range(1, 140), 4)):
        with pytest.raises(Killed):
            run(folder, task, kill_at=kill_at)
    work = run(folder, task)
    assert rows(work) == whole
    assert len(Work(folder, MARK).blocks) == len(work.blocks)


def test_a_block_whose_facts_were_not_written_is_mined_again(tmp_path: Path) -> None:
    texts = seeded_texts(150)
    task = task_of(texts, seeded_queries(texts, 140))
    whole = rows(run(tmp_path, task))
    (tmp_path / "block-000001.json").write_text("{")
    (tmp_path / "block-000001.parquet").write_bytes(b"torn")
    assert rows(run(tmp_path, task)) == whole


def changed(texts: Mapping[str, str]) -> tuple[dict[str, str], dict[str, int]]:
    """A document added, one rewritten, one deleted; and the versions."""
    new = dict(texts) | {"d500": texts["d003"] + " bara", "d010": "bara dene figo lura"}
    del new["d020"]
    return new, dict.fromkeys(texts, 1) | {"d500": 3, "d010": 2}


@pytest.mark.parametrize(
    "preset", ["perc-pos", "topk", "enterprise-2025", "semi-hard", "simans", "quarry", "random"]
)
def test_after_documents_have_changed_the_rows_are_those_of_mining_from_scratch(
    tmp_path: Path, preset: str
) -> None:
    texts = seeded_texts(400)
    queries = seeded_queries(texts, 60)
    before = run(tmp_path / "a", task_of(texts, queries), preset, dict.fromkeys(texts, 1))
    new, versions = changed(texts)
    task = task_of(new, queries)
    again = run(tmp_path / "b", task, preset, versions, finished(tmp_path / "set", before))
    assert rows(again) == rows(run(tmp_path / "c", task, preset, versions))
    assert len(reused(again)) < len(task.queries)
    assert reused(again) or preset in DRAWS_FROM_CORPUS


def test_queries_that_nothing_has_changed_for_are_taken_over_with_new_bm25_scores(tmp_path: Path) -> None:
    texts = seeded_texts(400)
    queries = seeded_queries(texts, 30)
    before = run(tmp_path / "a", task_of(texts, queries))
    far = dict(texts) | {"d900": "entirely other matters"}
    again = run(tmp_path / "b", task_of(far, queries), earlier=finished(tmp_path / "set", before))
    assert len(reused(again)) == len(queries)
    scores = [[m["score"] for m in row["members"] if m["name"] == "bm25"] for row in rows(again)]
    assert scores != [[m["score"] for m in row["members"] if m["name"] == "bm25"] for row in rows(before)]
    assert rows(again) == rows(run(tmp_path / "c", task_of(far, queries)))


def test_neighbouring_queries_are_mined_together_and_to_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = seeded_texts(200)
    queries = seeded_queries(texts, 100)
    missing = {f"q{n:03}" for n in (0, 1, 2, 7, 30, 31, 62, 63, 64, 65, 99)}
    known = {id: query for id, query in queries.items() if id not in missing}
    ranges: list[tuple[int, int]] = []
    gather = Gatherer.gather

    def recorded(gatherer: Gatherer, start: int, end: int) -> Gathered:
        ranges.append((start, end))
        return gather(gatherer, start, end)

    for preset in ("perc-pos", "quarry", "semi-hard"):
        before = run(tmp_path / f"{preset}-a", task_of(texts, known), preset)
        whole = run(tmp_path / f"{preset}-b", task_of(texts, queries), preset)
        earlier = finished(tmp_path / f"{preset}-set", before)
        ranges.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Gatherer, "gather", recorded)
            again = run(tmp_path / f"{preset}-c", task_of(texts, queries), preset, earlier=earlier)
        assert ranges == [(0, 3), (7, 8), (30, 32), (62, 64), (64, 66), (99, 100)]
        assert rows(again) == rows(whole)
        facts = [[q.model_dump(exclude={"reused"}) for q in work.read_queries()] for work in (again, whole)]
        assert facts[0] == facts[1]
        assert reused(again) == known.keys()


class FewClicks:
    """One document was displayed and refused for one query."""

    def __init__(self, text: str, document: int) -> None:
        self._text, self._document = text, document

    def observe(self, texts: Sequence[str], query: Any, positive: Any, document: Any) -> Seen:
        here = np.array([texts[q] == self._text for q in query]) & (document == self._document)
        refusals = np.where(here, 9, 0).astype(np.float32)
        no = np.zeros(len(document), np.bool_)
        return Seen(refusals, refusals, no, no, np.full(len(document), np.nan, np.float32))


def test_new_clicks_make_only_their_own_queries_be_mined_again(tmp_path: Path) -> None:
    texts = seeded_texts(200)
    queries = seeded_queries(texts, 30)
    first = task_of(texts, queries, feedback=FewClicks("nothing", 0))
    before = run(tmp_path / "a", first, "quarry")
    listed = first.members[0].search([queries["q007"][0]], 5).documents[0]
    task = task_of(texts, queries, feedback=FewClicks(queries["q007"][0], int(listed[2])))
    again = run(tmp_path / "b", task, "quarry", earlier=finished(tmp_path / "set", before))
    changed_queries = {id for id, (text, _) in queries.items() if text == queries["q007"][0]}
    assert reused(again) == queries.keys() - changed_queries
    assert rows(again) == rows(run(tmp_path / "c", task, "quarry"))


def test_a_new_positive_makes_its_query_be_mined_again(tmp_path: Path) -> None:
    texts = seeded_texts(200)
    queries = seeded_queries(texts, 30)
    before = run(tmp_path / "a", task_of(texts, queries))
    text, relevant = queries["q004"]
    more = dict(queries) | {"q004": (text, [*relevant, "d150"])}
    again = run(tmp_path / "b", task_of(texts, more), earlier=finished(tmp_path / "set", before))
    assert reused(again) == queries.keys() - {"q004"}
    assert rows(again) == rows(run(tmp_path / "c", task_of(texts, more)))


def test_each_member_is_asked_for_each_query_once(tmp_path: Path) -> None:
    texts = seeded_texts(100)
    task = task_of(texts, seeded_queries(texts, 70))
    run(tmp_path, task)
    asked = task.members[1].asked  # type: ignore[attr-defined]
    assert sorted(asked) == sorted({query.text for query in task.queries})


def test_only_the_presets_that_say_so_draw_from_the_whole_corpus() -> None:
    texts = seeded_texts(60)
    task = task_of(texts, seeded_queries(texts, 5))
    pairs = Gatherer(task, judged=False).gather(0, 5).pairs
    drawing = set()
    for name in PRESETS:
        preset = make_preset(name)
        for pair in pairs:
            small, large = (preset.select(pair, 50, size, np.random.default_rng(0)) for size in (60, 6_000))
            if small != large:
                drawing.add(name)
    assert drawing == set(DRAWS_FROM_CORPUS)
    assert set(DRAWS_FROM_REQUEST) | set(READS_SCORES) < set(PRESETS)
