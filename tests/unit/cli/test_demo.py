"""`quarry demo`: the sample is whole, and a server that does not start is explained."""

import sys

import pytest

from quarry_cli import server_process
from quarry_cli.failures import CliError
from quarry_cli.files.reading import ReadOptions, read_rows
from quarry_cli.files.records import Row
from quarry_cli.inputs import sample
from quarry_cli.inputs.judgments import read_qrels
from quarry_cli.inputs.topics import read_queries
from quarry_cli.server_process import run_server


def test_the_sample_is_whole():
    found = sample.find_sample()
    records = list(read_rows(found.corpus, ReadOptions(), print))
    assert len(records) == 719
    ids = {record.content["_id"] for record in records if isinstance(record, Row)}
    qrels = read_qrels(found.qrels)
    assert len(qrels) == len(read_queries(found.queries, set(qrels))) == 375
    assert {id for judged in qrels.values() for id in judged} <= ids
    assert "CC BY-SA" in (found.corpus.parent / "ATTRIBUTION.md").read_text()


def server_that(monkeypatch, does):
    """Puts a script in place of `quarry serve`."""
    monkeypatch.setattr(server_process, "make_command", lambda data: [sys.executable, "-c", does])


def test_a_server_is_used_once_it_says_where_it_listens_and_stopped_afterwards(monkeypatch, tmp_path):
    server_that(
        monkeypatch,
        "import time; print('noise'); print('quarry: listening on 127.0.0.1:7', flush=True); time.sleep(60)",
    )
    with run_server(tmp_path) as server:
        assert server == "127.0.0.1:7"


def test_a_server_that_ends_at_once_is_explained_with_its_log(monkeypatch, tmp_path):
    server_that(monkeypatch, "import sys; sys.exit('no room on disk')")
    with pytest.raises(CliError, match="status 1: no room on disk"), run_server(tmp_path):
        pass


def test_a_server_that_never_gets_ready_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(server_process, "START_TIMEOUT_S", 0.2)
    server_that(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(CliError, match="not ready"), run_server(tmp_path):
        pass
