"""`quarry index`: what reaches the server, once, and what is said of the rest."""

import gzip
import json
import re
from itertools import repeat

import pytest

from quarry.client import streams
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2
from quarry_cli.calls.visibility import IndexProgress, Writes


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(streams, "BACKOFF_S", 0.001)


@pytest.fixture
def faq(quarry):
    fields = [
        pb.SchemaField(name="title", type=pb.SCHEMA_FIELD_TYPE_TEXT),
        pb.SchemaField(name="lang", type=pb.SCHEMA_FIELD_TYPE_KEYWORD),
        pb.SchemaField(name="year", type=pb.SCHEMA_FIELD_TYPE_INTEGER),
        pb.SchemaField(name="made", type=pb.SCHEMA_FIELD_TYPE_TIMESTAMP),
        pb.SchemaField(name="open", type=pb.SCHEMA_FIELD_TYPE_BOOLEAN),
    ]
    quarry.collections["faq"] = pb.Collection(name="faq", schema=pb.Schema(fields=fields))
    return quarry


def write_lines(path, documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def numbered(count, **fields):
    return [{"_id": f"d{i}", "title": f"title {i}", **fields} for i in range(count)]


def test_every_document_of_a_file_arrives_with_its_fields(faq, cli, tmp_path):
    file = write_lines(tmp_path / "corpus.jsonl", numbered(3, text="body", extra=1.5))
    ended = cli("index", "faq", file, "--json")
    assert ended.status == 0
    assert (ended.json["documents"], ended.json["failed"], ended.json["sequence"]) == (3, 0, 3)
    document = faq.documents["faq", "d2"]
    assert document.fields["title"].string_value == "title 2"
    assert document.fields["text"].string_value == "body"
    assert document.fields["extra"].float_value == 1.5


def test_values_take_the_type_of_the_collections_field(faq, cli, tmp_path):
    document = {"_id": 7, "year": "2020", "made": "2020-01-01T00:00:00Z", "open": "true", "lang": 3}
    assert cli("index", "faq", write_lines(tmp_path / "c.jsonl", [document])).status == 0
    fields = faq.documents["faq", "7"].fields
    assert fields["year"].integer_value == 2020
    assert fields["made"].timestamp_value.seconds == 1_577_836_800
    assert fields["open"].boolean_value is True
    assert fields["lang"].string_value == "3"


def test_gzipped_lines_and_csv_say_the_same_as_plain_lines(faq, cli, tmp_path):
    rows = [{"_id": "a", "title": "one, two", "year": 1}, {"_id": "b", "title": "three"}]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (tmp_path / "c.csv").write_text('_id,title,year\na,"one, two",1\nb,three,\n')
    stored = []
    for name in ("c.jsonl.gz", "c.csv"):
        faq.documents.clear()
        assert cli("index", "faq", tmp_path / name).status == 0
        stored.append({key: document.SerializeToString() for key, document in faq.documents.items()})
    assert len(stored[0]) == 2
    assert stored[0] == stored[1]


def test_beirs_metadata_becomes_fields_and_nulls_are_missing(faq, cli, tmp_path):
    rows = [{"_id": "a", "title": "t", "metadata": {"url": "u", "title": "not this"}, "year": None}]
    assert cli("index", "faq", write_lines(tmp_path / "c.jsonl", rows)).status == 0
    fields = faq.documents["faq", "a"].fields
    assert {name: value.string_value for name, value in fields.items()} == {"title": "t", "url": "u"}


def test_batches_stay_below_their_size_and_keep_the_order(faq, cli, tmp_path):
    file = write_lines(tmp_path / "c.jsonl", numbered(60, text="x" * 500))
    assert cli("index", "faq", file, "--batch-bytes", 2_000).status == 0
    assert len(faq.batches) >= 15
    assert all(sum(d.ByteSize() for d in batch.documents) <= 2_000 for batch in faq.batches)
    assert [d.id for batch in faq.batches for d in batch.documents] == [f"d{i}" for i in range(60)]


def test_no_batch_has_more_than_500_documents(faq, cli, tmp_path):
    assert cli("index", "faq", write_lines(tmp_path / "c.jsonl", numbered(1_001))).status == 0
    assert [len(batch.documents) for batch in faq.batches] == [500, 500, 1]


@pytest.mark.parametrize("broken_after", [{1}, {3}, {2, 4, 5}])
def test_a_stream_that_breaks_is_continued_and_nothing_is_written_twice(faq, cli, tmp_path, broken_after):
    faq.broken_after = set(broken_after)
    file = write_lines(tmp_path / "c.jsonl", numbered(40, text="x" * 500))
    ended = cli("index", "faq", file, "--batch-bytes", 4_000, "--json")
    assert ended.status == 0
    assert (ended.json["documents"], faq.sequence, len(faq.documents)) == (40, 40, 40)
    assert faq.streams == 1 + len(broken_after)
    assert max(faq.written.values()) > 1  # a batch was indeed sent again, under its request id


def test_a_server_that_stays_away_is_an_error_of_one_line(faq, cli, tmp_path):
    faq.always_breaks = True
    ended = cli("index", "faq", write_lines(tmp_path / "c.jsonl", numbered(5)))
    assert ended.status == 1
    assert ended.err.startswith("quarry: UNAVAILABLE: shutting down")
    assert ended.err.count("\n") == 1
    assert faq.streams == 1 + streams.RETRIES


def test_a_server_that_goes_away_in_the_middle_leaves_a_word_on_what_was_written(faq, cli, tmp_path):
    faq.breaks_for_good_after = 3
    corpus = write_lines(tmp_path / "c.jsonl", numbered(200))
    ended = cli("index", "faq", corpus, "--batch-bytes", 1_024)
    assert ended.status == 1
    said = re.search(r"at least (\d+) documents were written; it is safe to index again", ended.err)
    assert said
    assert 0 < int(said[1]) <= len(faq.documents) < 200
    assert "quarry: UNAVAILABLE" in ended.err


def test_a_long_id_is_shortened_where_its_failure_is_said(faq, cli, tmp_path):
    faq.refused = {"x" * 900: "id: has 900 bytes, not 1 to 512"}
    ended = cli("index", "faq", write_lines(tmp_path / "c.jsonl", [{"_id": "x" * 900, "title": "a"}]))
    assert ended.status == 1
    assert "xxx…: id: has 900 bytes" in ended.err
    assert "x" * 100 not in ended.err


def test_a_server_that_acknowledges_nothing_is_given_up(faq, cli, tmp_path):
    faq.silent = True
    ended = cli("index", "faq", write_lines(tmp_path / "c.jsonl", numbered(5)), "--timeout", 0.3)
    assert ended.status == 1
    assert "no batch was acknowledged for 0.3 s" in ended.err


def test_what_was_not_written_is_named_with_its_place_and_reason(faq, cli, tmp_path):
    faq.refused = {"d1": "fields.year: is beyond 2^53"}
    lines = [json.dumps(d) for d in numbered(3)]
    bad = [
        "{not json",
        "[1]",
        '{"title": "no id"}',
        '{"_id": "y", "year": "soon"}',
        '{"_id": "z", "a": [[1]]}',
    ]
    file = tmp_path / "c.jsonl"
    file.write_text("\n".join(lines + bad))
    ended = cli("index", "faq", file, "--json")
    assert ended.status == 1
    assert (ended.json["documents"], ended.json["failed"]) == (2, 6)
    found = {f["where"].rpartition(":")[2]: (f["id"], f["reason"]) for f in ended.json["failures"]}
    assert found["2"] == ("d1", "fields.year: is beyond 2^53")
    assert found["4"][1].startswith("is not JSON")
    assert found["5"][1] == "is not a JSON object"
    assert found["6"][1] == "has no _id"
    assert found["7"] == ("y", "year is 'soon', not a whole number")
    assert found["8"][1].startswith("a is a list in a list")
    assert "6 documents were not written" in ended.err


def test_only_the_first_ten_failures_are_listed(faq, cli, tmp_path):
    (tmp_path / "c.jsonl").write_text("?\n" * 25)
    ended = cli("index", "faq", tmp_path / "c.jsonl", "--json")
    assert (ended.status, ended.json["failed"], len(ended.json["failures"])) == (1, 25, 10)
    assert "and 15 more" in ended.err


def test_searchable_waits_for_the_slowest_arm(faq, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("quarry_cli.calls.visibility.POLL_S", 0.001)
    faq.lag = 5
    ended = cli(
        "index", "faq", write_lines(tmp_path / "c.jsonl", numbered(6)), "--wait", "searchable", "--json"
    )
    assert (ended.status, ended.json["reached"], faq.lag) == (0, "searchable", 0)


def test_a_large_document_of_others_is_not_waited_for(faq, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("quarry_cli.calls.visibility.POLL_S", 0.001)
    faq.sequence, faq.encoding = 7, [(7, 10**6)]
    corpus = write_lines(tmp_path / "c.jsonl", numbered(2))
    ended = cli("index", "faq", corpus, "--wait", "searchable", "--timeout", "5", "--json")
    assert (ended.status, ended.json["reached"], ended.json["sequence"]) == (0, "searchable", 9)


def test_a_large_document_of_the_file_is_waited_for_while_its_encoding_moves(faq, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("quarry_cli.calls.visibility.POLL_S", 0.05)
    monkeypatch.setattr("quarry_cli.console.SAY_EVERY_S", 0.05)
    faq.encoding = [(1, 20)]
    corpus = write_lines(tmp_path / "c.jsonl", numbered(2))
    ended = cli("index", "faq", corpus, "--wait", "searchable", "--timeout", "0.5", "--json")
    assert (ended.status, ended.json["reached"], faq.encoding) == (0, "searchable", [])
    assert re.search(r"encoding 1 large document \(9\d%\): 1 of 2, ", ended.err)


def test_a_large_document_whose_encoding_does_not_move_ends_the_wait(faq, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("quarry_cli.calls.visibility.POLL_S", 0.001)
    monkeypatch.setattr("quarry_cli.calls.visibility._poll", lambda *_: repeat(IndexProgress(2, {1: (3, 9)})))
    corpus = write_lines(tmp_path / "c.jsonl", numbered(2))
    ended = cli("index", "faq", corpus, "--wait", "searchable", "--timeout", "0.5")
    assert ended.status == 1
    assert "no arm has moved for 0.5 s" in ended.err


def test_writes_of_others_in_between_are_told_apart():
    writes = Writes()
    for count, last in ((3, 3), (2, 5), (0, 5), (0, 9), (4, 12)):
        writes.add(count, last)
    assert writes.ranges == [range(1, 6), range(9, 13)]
    assert [sequence for sequence in range(15) if sequence in writes] == [1, 2, 3, 4, 5, 9, 10, 11, 12]
    assert (len(writes), writes.last, Writes().last) == (9, 12, 0)
    assert [writes.count_after(reached) for reached in (0, 4, 7, 10, 12)] == [9, 5, 4, 2, 0]


def test_an_arm_that_does_not_move_ends_the_wait_and_says_why(faq, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("quarry_cli.calls.visibility.POLL_S", 0.001)
    faq.failing_arm = "dense"
    corpus = write_lines(tmp_path / "c.jsonl", numbered(1))
    ended = cli("index", "faq", corpus, "--wait", "searchable", "--timeout", "0.5")
    assert ended.status == 1
    assert "no arm has moved for 0.5 s; the dense arm: its process ended" in ended.err


def test_a_missing_collection_is_answered_with_what_to_type(quarry, cli, tmp_path):
    ended = cli("index", "nope", write_lines(tmp_path / "c.jsonl", numbered(1)))
    assert ended.status == 1
    assert ended.err.startswith(
        "quarry: NOT_FOUND (COLLECTION_NOT_FOUND): no collection is called 'nope' "
        "-- `quarry collection create"
    )
    assert "`quarry index NAME FILE --create` one that fits a file" in ended.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.txt", b"x", "ends in none of .jsonl"),
        ("c.jsonl.gz", gzip.compress(b'{"_id": "a"}\n' * 100, mtime=0)[:-9], "ended before the end"),
        ("c.csv", b"_id,title\na,\xff\n", "is not CSV in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(faq, cli, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    ended = cli("index", "faq", tmp_path / name)
    assert ended.status == 1
    assert said in ended.err


def test_parquet_without_pyarrow_says_what_to_install(faq, cli, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    ended = cli("index", "faq", tmp_path / "c.parquet")
    assert ended.status == 1
    assert "pip install pyarrow" in ended.err


def warning(kind, fields, message="20 documents cannot be found"):
    return document_service_pb2.UpsertWarning(
        kind=kind,
        document_count=20,
        fields=fields,
        field_count=len(fields),
        sample_ids=["d0"],
        message=message,
    )


def test_what_is_most_likely_a_mistake_is_said_in_red_and_ends_with_3(faq, cli, tmp_path, monkeypatch):
    faq.warnings = [warning(document_service_pb2.UPSERT_WARNING_KIND_NO_SEARCHED_TEXT, ["title"])]
    file = write_lines(tmp_path / "c.jsonl", numbered(40))
    ended = cli("index", "faq", file)
    assert ended.status == 3
    assert "40 documents logged in faq" in ended.out
    assert "warning: 20 documents cannot be found" in ended.err
    said = []
    monkeypatch.setattr("quarry_cli.commands.index.say", lambda text, style="": said.append((text, style)))
    cli("index", "faq", file)
    assert said == [("warning: 20 documents cannot be found", "bold red")]


def test_warnings_are_counted_over_batches_and_in_json(faq, cli, tmp_path):
    unknown = document_service_pb2.UPSERT_WARNING_KIND_UNKNOWN_FIELDS
    faq.warnings = [warning(unknown, ["name", "price"])]
    file = write_lines(tmp_path / "c.jsonl", numbered(40, text="x" * 500))
    ended = cli("index", "faq", file, "--batch-bytes", 12_000, "--json")
    assert ended.status == 3
    batches = len(faq.batches)
    assert batches > 1
    (found,) = ended.json["warnings"]
    assert (found["kind"], found["fields"]) == ("UPSERT_WARNING_KIND_UNKNOWN_FIELDS", ["name", "price"])
    assert int(found["document_count"]) == 20 * batches
    assert found["message"].startswith(
        f"{20 * batches} documents have fields that the schema does not name: name"
    )


def test_what_was_not_written_counts_more_than_a_warning(faq, cli, tmp_path):
    faq.warnings = [warning(document_service_pb2.UPSERT_WARNING_KIND_NO_SEARCHED_TEXT, ["title"])]
    faq.refused = {"d1": "is wrong"}
    assert cli("index", "faq", write_lines(tmp_path / "c.jsonl", numbered(3))).status == 1


def test_without_warnings_all_is_well(faq, cli, tmp_path):
    ended = cli("index", "faq", write_lines(tmp_path / "c.jsonl", numbered(3)), "--json")
    assert (ended.status, ended.json["warnings"]) == (0, [])
