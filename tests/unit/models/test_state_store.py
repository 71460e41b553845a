"""Stored states outlive the server, within a bound; what is damaged is made again."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarry.errors import DiskFullError
from quarry.models.caches import state_store
from quarry.models.caches.state_cache import StateCache, make_state_key, make_text_digest
from quarry.models.caches.state_forms import ByteStates, HalfStates, States
from quarry.models.caches.state_store import ENTRY_BYTES, HEADER, StateStore, remove_store

KEYS = [bytes([n]) * 16 for n in range(60)]
SIZE = 8 * 2 + HEADER.size + ENTRY_BYTES
ROOMY = 2**20
Open = Callable[..., StateStore]


def states(value: float, tokens: int = 2) -> States:
    return HalfStates().keep(np.full((tokens, 4), value, np.float32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "states.db"


@pytest.fixture
def open_store(path: Path) -> Iterator[Open]:
    opened: list[StateStore] = []

    def open_one(max_bytes: int = ROOMY) -> StateStore:
        for one in opened:
            one.close()
        opened[:] = [StateStore(path, max_bytes)]
        return opened[0]

    yield open_one
    for one in opened:
        one.close()


def test_all_states_of_a_text_are_erased_by_its_digest(open_store: Open, path: Path) -> None:
    ids = np.arange(3, dtype=np.int64)
    keys = [make_state_key(model, "half", ids, text) for model in ("a", "b") for text in ("this", "that")]
    store = open_store()
    store.put_many({key: states(n + 0.5, tokens=9) for n, key in enumerate(keys)})
    erased = [states(n + 0.5, tokens=9).tobytes() for n in (0, 2)]
    store.erase(store.find_of_texts({make_text_digest("this")}))
    store.empty_log()
    assert store.find_known(keys) == {keys[1], keys[3]}
    assert store.get_many(keys).keys() == {keys[1], keys[3]}
    for file in path.parent.glob("states.db*"):
        assert not any(one in file.read_bytes() for one in erased)
    assert open_store().find_known(keys) == {keys[1], keys[3]}


def test_states_are_found_after_a_restart_as_they_were(open_store: Open) -> None:
    half, byte = states(1.5), ByteStates().keep(np.arange(12, dtype=np.float32).reshape(3, 4))
    open_store().put_many({KEYS[0]: half, KEYS[1]: byte})
    store = open_store()
    found = store.get_many(KEYS[:3])
    assert found.keys() == {KEYS[0], KEYS[1]}
    for kept, expected in ((found[KEYS[0]], half), (found[KEYS[1]], byte)):
        np.testing.assert_array_equal(kept, expected)
        assert kept.dtype == expected.dtype
        assert kept.base is None
    assert len(store) == 2
    assert store.bytes == 2 * (HEADER.size + ENTRY_BYTES) + half.nbytes + byte.nbytes


def test_what_waits_is_written_before_the_store_is_closed(open_store: Open) -> None:
    store = open_store()
    for place, key in enumerate(KEYS):
        store.put_later(key, states(place))
    assert len(open_store().get_many(KEYS)) == len(KEYS)
    assert store.dropped == 0


def test_those_used_longest_ago_make_room_also_after_a_restart(open_store: Open) -> None:
    store = open_store(3 * SIZE)
    for place in range(3):
        store.put_many({KEYS[place]: states(place)})
    store.find_known(KEYS[1:2])  # asking is no use
    store.get_many(KEYS[:1])
    store = open_store(3 * SIZE)
    store.put_many({KEYS[3]: states(3)})
    assert store.find_known(KEYS) == {KEYS[0], KEYS[2], KEYS[3]}
    assert store.bytes == 3 * SIZE
    assert open_store(3 * SIZE).find_known(KEYS) == {KEYS[0], KEYS[2], KEYS[3]}


def test_a_lower_bound_holds_from_the_next_start_also_of_the_file(open_store: Open, path: Path) -> None:
    open_store().put_many({key: states(1, tokens=500) for key in KEYS})
    store = open_store(5_000)
    assert store.bytes <= 5_000
    assert len(store) == 1
    store.close()
    assert path.stat().st_size < 40_000


def test_states_over_the_bound_push_nothing_out(open_store: Open) -> None:
    store = open_store(2 * SIZE)
    store.put_many({KEYS[0]: states(0)})
    store.put_many({KEYS[1]: states(1, tokens=1_000)})
    assert store.find_known(KEYS) == {KEYS[0]}
    assert store.has_room_for([states(1)])
    assert not store.has_room_for([states(1), states(2)])


def test_damaged_states_are_missing_and_are_written_again(open_store: Open, path: Path) -> None:
    store = open_store()
    store.put_many({key: states(1) for key in KEYS[:2]})
    with sqlite3.connect(path) as connection:
        statement = "UPDATE state SET value = CAST(x'00' || substr(value, 2) AS BLOB) WHERE key = ?"
        connection.execute(statement, KEYS[:1])
    assert store.get_many(KEYS[:2]).keys() == {KEYS[1]}
    assert (store.damaged, store.find_known(KEYS)) == (1, {KEYS[1]})
    store.put_many({KEYS[0]: states(2)})
    assert open_store().get_many(KEYS[:1])[KEYS[0]].tolist() == states(2).tolist()


def test_states_under_another_key_are_damaged(open_store: Open, path: Path) -> None:
    store = open_store()
    store.put_many({KEYS[0]: states(1)})
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE state SET key = ?", KEYS[1:2])
    assert open_store().get_many(KEYS[1:2]) == {}


def test_a_file_that_is_no_database_is_set_aside(open_store: Open, path: Path) -> None:
    path.write_bytes(b"nonsense " * 1_000)
    store = open_store()
    store.put_many({KEYS[0]: states(1)})
    assert open_store().find_known(KEYS) == {KEYS[0]}
    assert list(path.parent.glob("states.db.damaged-*"))


def test_a_full_disk_is_typed_and_nothing_is_promised(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store._file.run(lambda c: c.execute("PRAGMA max_page_count = 8"), None)
    with pytest.raises(DiskFullError, match="passage states"):
        store.put_many({key: states(1, tokens=5_000) for key in KEYS})
    assert (store.find_known(KEYS), store.bytes) == (set(), 0)


def fill_disk(call: object, otherwise: object) -> None:
    raise DiskFullError("no space")


def read_keys(path: Path) -> set[bytes]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM state")}


def test_an_erasure_that_fails_for_a_full_disk_is_still_to_be_done(
    open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_state_key("a", "half", np.arange(3, dtype=np.int64), "this")
    store, digests = open_store(), {make_text_digest("this")}
    store.put_many({key: states(1)})
    with monkeypatch.context() as full:
        full.setattr(store._file, "run", fill_disk)
        for _ in range(2):
            with pytest.raises(DiskFullError):
                store.erase(store.find_of_texts(digests))
    assert read_keys(path) == {key}
    store.erase(store.find_of_texts(digests))
    assert read_keys(path) == set()
    assert store.find_of_texts(digests) == []


@pytest.mark.parametrize("pushed_out", [True, False])
def test_what_a_full_disk_kept_in_the_file_goes_with_the_next_write(
    open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch, pushed_out: bool
) -> None:
    store = open_store(SIZE)
    store.put_many({KEYS[0]: states(0)})
    with monkeypatch.context() as full:
        full.setattr(store._file, "run", fill_disk)
        with pytest.raises(DiskFullError):
            store.put_many({KEYS[1 if pushed_out else 0]: states(1)})
    assert read_keys(path) == {KEYS[0]}
    store.put_many({KEYS[2]: states(2)})
    assert read_keys(path) == {KEYS[2]}


def unreadable(call: object, otherwise: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_a_file_that_cannot_be_read_has_nothing_and_is_said_once(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    store.put_many({KEYS[0]: states(1)})
    with monkeypatch.context() as broken:
        broken.setattr(store._file, "run", unreadable)
        assert [store.get_many(KEYS[:1]) for _ in range(3)] == [{}, {}, {}]
    assert caplog.text.count("disk I/O error") == 1
    assert store.get_many(KEYS[:1]).keys() == {KEYS[0]}


def test_damaged_states_that_cannot_be_removed_are_missing_all_the_same(
    open_store: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.put_many({KEYS[0]: states(1)})
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE state SET value = CAST(x'00' || substr(value, 2) AS BLOB)")
    monkeypatch.setattr(store, "_write", lambda *writes: unreadable(None, None))
    assert store.get_many(KEYS[:1]) == {}
    monkeypatch.undo()


def test_states_that_nobody_has_time_to_write_are_dropped_and_counted(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_store, "WAITING", 1)
    monkeypatch.setattr(StateStore, "_write_waiting", lambda self: None)
    store = open_store()
    for key in KEYS:
        store.put_later(key, states(1))
    assert store.dropped == len(KEYS) - 1
    store.close()  # does not wait for a writer that has gone


@pytest.mark.parametrize("error", [OSError("no such file"), RuntimeError("nobody knows why")])
def test_the_writer_outlives_what_fails(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    store = open_store()
    write, wanted = store._write, [error]
    failed = threading.Event()

    def write_later(*writes: Any) -> None:
        if wanted:
            failed.set()
            raise wanted.pop()
        write(*writes)

    monkeypatch.setattr(store, "_write", write_later)
    store.put_later(KEYS[0], states(0))
    assert failed.wait(30)
    store.put_later(KEYS[1], states(1))
    store.close()
    assert (store.dropped, store.find_known(KEYS)) == (1, {KEYS[1]})
    assert "1 passage states are not stored" in caplog.text
    assert open_store().find_known(KEYS) == {KEYS[1]}


def test_a_store_that_cannot_be_written_can_be_closed(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    monkeypatch.setattr(store, "_write", lambda *writes: unreadable(None, None))
    store.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store._file.run(lambda c: c.execute("SELECT 1"), None)


def test_threads_share_it(open_store: Open) -> None:
    store = open_store(20 * SIZE)

    def work(thread: int) -> None:
        for n in range(60):
            place = n * (thread + 1) % len(KEYS)
            for key, found in store.get_many([KEYS[place]]).items():
                assert found.tolist() == states(KEYS.index(key)).tolist()
            store.put_many({KEYS[place]: states(place)})
            assert store.bytes <= 20 * SIZE

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    known = store.find_known(KEYS)
    assert store.get_many(KEYS).keys() == known == open_store(20 * SIZE).find_known(KEYS)


def test_a_store_that_is_not_wanted_leaves_no_file(open_store: Open, path: Path) -> None:
    open_store().put_many({KEYS[0]: states(1)})
    open_store().close()
    remove_store(path)
    assert list(path.parent.iterdir()) == []
    remove_store(path)


def test_memory_is_filled_from_the_store_and_the_store_from_what_is_put(open_store: Open) -> None:
    cache = StateCache(ROOMY, open_store())
    cache.put(KEYS[0], states(1))
    again = StateCache(ROOMY, open_store())
    assert again.find_known(KEYS) == {KEYS[0]}
    assert len(again) == 0
    (found,) = again.get(KEYS[:1])
    assert found is not None
    assert not found.flags.writeable
    assert (len(again), again.hits) == (1, 1)


def test_what_is_stored_beforehand_pushes_nothing_out(open_store: Open) -> None:
    cache = StateCache(ROOMY, open_store(2 * SIZE))
    assert cache.store_if_room({KEYS[0]: states(0), KEYS[1]: states(1)})
    assert not cache.store_if_room({KEYS[2]: states(2)})
    assert (cache.find_stored(KEYS), len(cache)) == ({KEYS[0], KEYS[1]}, 0)
    assert not StateCache(ROOMY).store_if_room({KEYS[2]: states(2)})
