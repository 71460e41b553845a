"""All that a training reads is gathered in one step, and alike each time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.unit.trainer.data.test_training_data import examples, judged
from tests.unit.trainer.ranked import ranked_query
from tests.unit.training.samples import spec

from quarry.mining.spec import JudgedQuery
from quarry.training.hashes import mark_document, mark_query
from quarry.training.provenance import TrainingProvenance
from quarry.training.spec import TrainingSpec
from quarry_trainer.data.dataset import BadExamplesError
from quarry_trainer.data.live import Counted, RankedQuery
from quarry_trainer.data.training_data import TrainingData


class FakeLive:
    """A live search that finds ``found`` for every query."""

    def __init__(self, *found: str) -> None:
        self.found, self.asked = found, list[str]()
        self.entitled: dict[str, str] = {}

    def titles(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {id: self.entitled[id] for id in ids if id in self.entitled}

    def matching_passages(self, _text: str, ids: Sequence[str]) -> Mapping[str, str]:
        return {id: f"text of {id}" for id in ids if id in self.found}

    def rank(self, queries: Mapping[str, str], _depth: int, counted: Counted) -> list[RankedQuery]:
        self.asked += queries
        counted(len(queries), len(queries))
        return [ranked_query(id, self.found, text=text) for id, text in queries.items()]


DOCUMENTS = [f"d{n}" for n in range(40)]


@pytest.fixture
def asked(tmp_path: Path) -> TrainingSpec:
    base = tmp_path / "base"
    base.mkdir()
    TrainingProvenance(frozenset({mark_query("read before")})).write(base)
    return spec(base={"name": "faq@1", "folder": str(base)}, judgments=judged(60), seed=3)


def gather(asked: TrainingSpec, live: FakeLive, work: Path, most_groups: int = 1_000) -> TrainingData:
    return TrainingData.gather(
        asked, examples(100), live, most_groups, work, lambda _done, _of: None  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_is_learned_and_what_was_read_before_is_written_down(
    asked: TrainingSpec, tmp_path: Path
) -> None:
    data = gather(asked, FakeLive(*DOCUMENTS, "x"), tmp_path)
    assert data.base_provenance == TrainingProvenance(frozenset({mark_query("read before")}))
    learned = {mark_query(group.query) for group in data.groups}
    assert data.provenance.queries == data.base_provenance.queries | learned
    assert data.provenance.documents == {mark_document("faq", group.positive) for group in data.groups}
    assert data.provenance.queries.isdisjoint(data.split.decided_by)


def test_every_query_of_the_training_is_ranked_once_and_no_other(asked: TrainingSpec, tmp_path: Path) -> None:
    live = FakeLive(*DOCUMENTS, "x")
    data = gather(asked, live, tmp_path, most_groups=10)
    held_out = {query.id for query in (*data.split.development, *data.split.gate)}
    assert len(data.groups) == 10 < len(data.split.train)
    assert sorted(live.asked) == sorted({group.query_id for group in data.groups} | held_out)
    assert set(data.ranked) == set(live.asked)
    again = gather(asked, FakeLive(), tmp_path, most_groups=10)
    assert again.groups == data.groups
    assert again.texts == data.texts, "an interrupted job goes on with what it got at first"


def test_an_interrupted_job_holds_out_what_it_held_out_though_titles_have_changed(
    asked: TrainingSpec, tmp_path: Path
) -> None:
    """Or its checkpoint would have learned from what decides now."""
    unjudged, live = asked.model_copy(update={"judgments": ()}), FakeLive(*DOCUMENTS, "x")
    first = gather(unjudged, live, tmp_path)
    live.entitled = {id: f"title {n % 7}" for n, id in enumerate(DOCUMENTS)}
    again = gather(unjudged, live, tmp_path)
    assert (again.split, again.provenance) == (first.split, first.provenance)
    (tmp_path / "another").mkdir()
    anew = gather(unjudged, live, tmp_path / "another")
    learned = {group.query_id for group in first.groups}
    assert learned & {query.id for query in anew.split.gate}, "by the new titles others are held out"


def test_negatives_that_are_gone_are_counted_and_not_read(asked: TrainingSpec, tmp_path: Path) -> None:
    data = gather(asked, FakeLive(*DOCUMENTS, "x"), tmp_path)
    groups = len(data.groups)
    held = 100 - groups
    assert data.count_usable() == {
        "groups": {"file": 100, "held_out": held, "drawn": groups, "usable": groups},
        "negatives": {"file": 200, "held_out": 2 * held, "drawn": 2 * groups, "usable": groups},
    }
    assert data.describe_unreached(200) == ()
    (tmp_path / "another").mkdir()
    with pytest.raises(BadExamplesError, match="both the positive and a negative"):
        gather(asked, FakeLive(*DOCUMENTS), tmp_path / "another")


def test_what_the_steps_do_not_reach_is_counted_of_the_whole_file_and_told(
    asked: TrainingSpec, tmp_path: Path
) -> None:
    data = gather(asked, FakeLive(*DOCUMENTS, "x"), tmp_path, most_groups=10)
    free = len(data.split.train)
    assert data.count_usable() == {
        "groups": {"file": 100, "held_out": 100 - free, "drawn": 10, "usable": 10},
        "negatives": {"file": 200, "held_out": 200 - 2 * free, "drawn": 20, "usable": 10},
    }
    (said,) = data.describe_unreached(7)
    assert said.startswith(f"{free - 10} of {free} groups are not reached in 7 steps")


def test_judgments_that_contradict_each_other_count_as_relevant_and_are_named(
    asked: TrainingSpec, tmp_path: Path
) -> None:
    """The same rule as in mining."""
    one = JudgedQuery(id="a", text="red fruit", judgments={"d1": 1, "d2": 0})
    other = JudgedQuery(id="b", text="Red fruit?", judgments={"d1": 0, "d3": 1})
    contradicted = asked.model_copy(update={"judgments": (one, other)})
    data = gather(contradicted, FakeLive(*DOCUMENTS, "x"), tmp_path)
    assert data.disputed == (("red fruit", "d1"),)
    found = {query.id: query.judgments for query in data.split.gate}
    assert found == {"judged:a": {"d1": 1, "d2": 0}, "judged:b": {"d1": 1, "d3": 1}}
