"""Example files become groups; a larger group is drawn from anew each epoch."""

import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.training.samples import write_bomb

from quarry.errors import DataLossError, InvalidArgumentError, LimitExceededError
from quarry.training.uploads import Uploads
from quarry_trainer.data.dataset import BadExamplesError, GroupDataset, TextGroup, read_examples
from quarry_trainer.data.drop_reasons import DropReason
from quarry_trainer.data.example_files import TEXTS


def row(query_id: str, positive: str, negative: str, **changed: Any) -> dict[str, Any]:
    return {
        "query_id": query_id,
        "query": f"text of {query_id}",
        "positive_id": positive,
        "negative_id": negative,
        "label": 0,
        "weight": 1.0,
        **changed,
    }


def written(path: Path, rows: list[dict[str, Any]], simulated: bool = False) -> Path:
    names = row("", "", "").keys()
    table = pa.table({name: [r[name] for r in rows] for name in names})
    pq.write_table(table.replace_schema_metadata({"quarry.simulated": str(simulated).lower()}), path)
    return path


def test_rows_of_a_pair_become_one_group(tmp_path: Path) -> None:
    rows = [row("q1", "a", "b"), row("q1", "a", "c", label=1), row("q1", "d", "b"), row("q2", "e", "f")]
    examples = read_examples(written(tmp_path / "x.parquet", rows))
    assert [(g.query_id, g.positive, g.documents, g.relevant) for g in examples.groups] == [
        ("q1", "a", ("b", "c"), (False, True)),
        ("q1", "d", ("b",), (False,)),
        ("q2", "e", ("f",), (False,)),
    ]
    assert examples.positives == {"q1": {"a": 1, "c": 1, "d": 1}, "q2": {"e": 1}}
    assert examples.queries == {"q1": "text of q1", "q2": "text of q2"}


def test_an_uploaded_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    content = written(tmp_path / "x.parquet", [row("q1", "a", "b")]).read_bytes()
    upload = Uploads(tmp_path).begin()
    upload.add(content)
    name, _ = upload.finish()
    path = Uploads(tmp_path).locate(name)
    assert read_examples(path).positives == {"q1": {"a": 1}}
    written(path, [row("q1", "a", "c")])
    with pytest.raises(DataLossError, match="upload it again"):
        read_examples(path)


def test_a_file_says_when_the_feedback_was_given_that_it_rests_on(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", [row("q1", "a", "b")])
    assert read_examples(path).feedback_us is None
    table = pq.read_table(path)

    def told(**times: str) -> Path:
        metadata = {f"quarry.feedback_{name}_us": time for name, time in times.items()}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        return path

    assert read_examples(told(start="100", end="200")).feedback_us == (100, 200)
    for broken in ({"start": "100"}, {"start": "100", "end": "late"}):
        with pytest.raises(InvalidArgumentError, match="times of feedback"):
            read_examples(told(**broken))


def test_weights_are_relative(tmp_path: Path) -> None:
    rows = [
        row("q1", "a", "b", weight=2.0),
        row("q1", "a", "c", weight=6.0),
        row("q2", "d", "e", weight=12.0),
    ]
    first, second = read_examples(written(tmp_path / "x.parquet", rows)).groups
    assert first.weights == (0.5, 1.5)
    assert second.weights == (1.0,)
    assert (first.weight, second.weight) == (0.5, 1.5)


def test_one_heavy_example_does_not_drown_the_others(tmp_path: Path) -> None:
    rows = [row(f"q{n}", "a", "b") for n in range(1_000)] + [row("heavy", "a", "b", weight=1e6)]
    groups = read_examples(written(tmp_path / "x.parquet", rows)).groups
    assert groups[-1].weight == 10.0
    assert groups[0].weight == pytest.approx(0.1)


def test_the_file_says_whether_users_were_simulated(tmp_path: Path) -> None:
    for simulated in (True, False):
        file = written(tmp_path / f"{simulated}.parquet", [row("q", "a", "b")], simulated)
        assert read_examples(file).simulated is simulated


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    first = read_examples(written(tmp_path / "1.parquet", [row("q", "a", "b")]))
    same = read_examples(written(tmp_path / "2.parquet", [row("q", "a", "b")]))
    other = read_examples(written(tmp_path / "3.parquet", [row("q", "a", "c")]))
    assert first.data_hash == same.data_hash != other.data_hash


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "no examples"),
        ([row("q", "a", "b", weight=float("nan"))], "not a number over 0"),
        ([row("q", "a", "b", weight=0.0)], "not a number over 0"),
        ([row("q", "a", "b", weight=1e308), row("r", "a", "b", weight=1e308)], "a weight is over 1e"),
        ([row("q", "a", "b", weight=None)], "not a number over 0"),
        ([row("q", "a", "b", weight="1")], "a weight is not a number"),
        ([row("q", "a", "b", label=7)], "a label is 7, not 0"),
        ([row("q", "a", "b"), row("q", "a", "c", label=-1)], "a label is -1, not 0"),
        ([row("q", "a", "b", label=None)], "a label is None, not 0"),
        ([row("q", "a", "b", label=0.5)], "a label is 0.5, not 0"),
        ([row("q", "a", "b", label="1")], "a label is '1', not 0"),
        ([row("q", "a", "b", label=[0])], "label holds lists"),
        ([row("q", "a", "b", label=1), row("r", "a", "c", label=1)], "every label is 1"),
        ([row("q", None, "b")], "positive_id is None in a row"),
        ([row("q", "a", 7)], "negative_id is 7 in a row"),
        ([row("q", "a", "b", query=" ?! ")], r"no row is left .*1 rows whose query has no word \(q\)"),
        ([row("q", "a", "a")], r"1 of 1 rows a document is positive and negative of one query.*\(q/a\)"),
        ([row("q", "a", "b"), row("q", "b", "a")], "2 of 2 rows a document is positive and negative"),
        (
            [row("1", "a", "b", query="red fruit"), row("2", "b", "a", query="Red fruit?")],
            "2 of 2 rows a document is positive and negative",
        ),
        (
            [row("q", "a", "b"), {**row("q", "c", "b"), "query": "another text"}],
            "a query id has several texts",
        ),
    ],
)
def test_nothing_can_be_learned_from_it(tmp_path: Path, rows: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(BadExamplesError, match=problem):
        read_examples(written(tmp_path / "x.parquet", rows))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(InvalidArgumentError, match="no readable Parquet file"):
        read_examples(tmp_path / "text")
    pq.write_table(pa.table({"query_id": ["q"], "query": ["text"]}), tmp_path / "columns")
    with pytest.raises(InvalidArgumentError, match="no column positive_id, negative_id, label, weight"):
        read_examples(tmp_path / "columns")


def test_a_row_that_names_its_positive_twice_is_counted_by_its_own_name(tmp_path: Path) -> None:
    rows = [row("q", "a", "b"), row("q", "a", "a", label=1), row("q", "a", "b")]
    examples = read_examples(written(tmp_path / "x.parquet", rows))
    assert [group.documents for group in examples.groups] == [("b",)]
    assert examples.dropped.as_json() == {
        "repeated": {"count": 1, "examples": ["q/b"]},
        "own_positive": {"count": 1, "examples": ["q/a"]},
    }


def test_a_few_contradictions_are_dropped_and_named(tmp_path: Path) -> None:
    """Of A before B and B before A both are dropped; the documents stay answers of the query."""
    sound = [row(f"q{n}", "p", "n") for n in range(30)]
    rows = [*sound, row("x", "a", "b"), row("x", "b", "a"), row("x", "a", "c")]
    examples = read_examples(written(tmp_path / "x.parquet", rows))
    found = {(g.query_id, g.positive): g.documents for g in examples.groups if g.query_id == "x"}
    assert found == {("x", "a"): ("c",), ("x", "b"): ()}
    assert examples.positives["x"] == {"a": 1, "b": 1}
    assert examples.dropped.as_json() == {"contradicted": {"count": 2, "examples": ["x/b", "x/a"]}}
    assert "2 negatives that answer the same question" in examples.dropped.describe()[0]


def test_what_is_relevant_in_one_group_is_no_negative_in_another(tmp_path: Path) -> None:
    sound = [row(f"q{n}", "p", "n") for n in range(30)]
    rows = [*sound, row("x", "a", "b", label=1), row("x", "c", "b"), row("y", "d", "b", query="Text of X?")]
    examples = read_examples(written(tmp_path / "x.parquet", rows))
    assert [g.documents for g in examples.groups[-3:]] == [("b",), (), ()]
    assert examples.dropped.as_json()["contradicted"] == {"count": 2, "examples": ["x/b", "y/b"]}


def test_repeated_rows_count_once_and_are_named(tmp_path: Path) -> None:
    rows = [row("q", "a", "b", weight=2.0), row("q", "a", "b"), row("q", "a", "c", weight=2.0)]
    rows += [row("empty", "a", "b", query="...")]
    examples = read_examples(written(tmp_path / "x.parquet", rows))
    (group,) = examples.groups
    assert (group.documents, group.weights) == (("b", "c"), (1.0, 1.0))
    assert examples.dropped.as_json() == {
        "repeated": {"count": 1, "examples": ["q/b"]},
        "query_without_text": {"count": 1, "examples": ["empty"]},
    }


def test_labels_may_be_truth_values_or_whole_floats(tmp_path: Path) -> None:
    for number, (no, yes) in enumerate([(False, True), (0.0, 1.0)]):
        rows = [row("q", "a", "b", label=no), row("q", "a", "c", label=yes)]
        (group,) = read_examples(written(tmp_path / f"{number}.parquet", rows)).groups
        assert group.relevant == (False, True)


def text_group(others: int) -> TextGroup:
    count = others + 1
    return TextGroup(
        "query",
        tuple(f"d{n}" for n in range(count)),
        tuple(f"passage {n}" for n in range(count)),
        tuple(n / count for n in range(count)),
        (True, *(False for _ in range(others))),
        tuple(float(n + 1) for n in range(count)),
    )


def test_a_small_group_is_read_whole() -> None:
    assert GroupDataset([text_group(3)], 8, seed=1)[0] == text_group(3)


def test_others_are_drawn_anew_each_epoch_and_alike_each_time() -> None:
    dataset = GroupDataset([text_group(20)], 8, seed=1)
    drawn = []
    for epoch in (0, 1, 0):
        dataset.epoch = epoch
        drawn.append(dataset[0])
    assert drawn[0] == drawn[2] != drawn[1]
    for group in drawn:
        assert len(group.passages) == len(set(group.passages)) == 8
        assert [id.removeprefix("d") for id in group.documents] == [
            passage.removeprefix("passage ") for passage in group.passages
        ]
        assert group.passages[0] == "passage 0"
        whole = text_group(20)
        places = [whole.passages.index(p) for p in group.passages]
        assert group.fused == tuple(whole.fused[p] for p in places)
        assert group.weights == tuple(whole.weights[p] for p in places)


def test_a_text_in_many_rows_is_in_memory_once(tmp_path: Path) -> None:
    write_bomb(tmp_path / "x", rows=20_000, text_bytes=10_000)
    tracemalloc.start()
    try:
        examples = read_examples(tmp_path / "x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (group,) = examples.groups
    assert (len(group.documents), len(group.query)) == (1, 10_000)
    assert examples.dropped[DropReason.REPEATED] == 19_999
    assert peak < 20 * 2**20  # the texts of all rows are 200 MB


def test_a_file_with_more_text_than_allowed_is_refused_while_it_is_read(tmp_path: Path) -> None:
    size = len(write_bomb(tmp_path / "x"))
    assert size < 14 * 2**10
    with pytest.raises(LimitExceededError, match="over 4294967296 bytes of text"):
        read_examples(tmp_path / "x")
    rows = [row("q", "a", "b"), row("q", "a", "c")]
    texts = sum(len(str(r[name])) for r in rows for name in TEXTS)
    file = written(tmp_path / "y", rows)
    assert read_examples(file, texts).groups
    with pytest.raises(LimitExceededError, match=f"over {texts - 1} bytes of text"):
        read_examples(file, texts - 1)
