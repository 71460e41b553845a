import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quarry.documents import vector_cache
from quarry.documents.passages import Cut, SourceText
from quarry.documents.vector_cache import CachedVectors, VectorCache, make_vector_key
from quarry.types import Docno


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.db"


@pytest.fixture
def cache(path: Path) -> Iterator[VectorCache]:
    made = VectorCache(path)
    yield made
    made.close()


def _key(n: int) -> bytes:
    return make_vector_key("scope", SourceText("", str(n)))


def _value(n: int, passages: int = 2) -> CachedVectors:
    vectors = np.random.default_rng(n).standard_normal((passages, 4), dtype=np.float32)
    return CachedVectors(Cut(n % 7, tuple((i * 10, i * 10 + n) for i in range(passages))), vectors)


def _same(a: CachedVectors, b: CachedVectors) -> bool:
    return a.cut == b.cut and a.vectors.dtype == np.float32 and np.array_equal(a.vectors, b.vectors)


def test_what_was_put_is_got_also_after_a_restart(cache: VectorCache, path: Path) -> None:
    values = {_key(n): _value(n, n % 3) for n in range(1_200)}
    cache.put_many(values)
    cache.close()
    again = VectorCache(path)
    got = again.get_many([*values, _key(-1)])
    assert got.keys() == values.keys()
    assert all(_same(got[key], values[key]) for key in values)
    assert again.damaged == 0
    again.close()


def test_vectors_alone_are_those_of_the_whole_values(cache: VectorCache) -> None:
    values = {_key(n): _value(n, n % 3) for n in range(1_200)}
    cache.put_many(values)
    got = cache.get_vectors([*values, _key(-1)])
    assert got.keys() == values.keys()
    assert all(np.array_equal(got[key], values[key].vectors) for key in values)


def test_a_later_value_replaces_an_earlier_one(cache: VectorCache) -> None:
    cache.put_many({_key(1): _value(1)})
    cache.put_many({_key(1): _value(2)})
    assert _same(cache.get_many([_key(1)])[_key(1)], _value(2))
    assert cache.count() == 1


def test_what_is_deleted_is_gone(cache: VectorCache) -> None:
    cache.put_many({_key(n): _value(n) for n in range(3)})
    cache.delete_many([_key(0), _key(9)])
    assert cache.get_many([_key(n) for n in range(3)]).keys() == {_key(1), _key(2)}


@pytest.mark.parametrize("change", ["value = zeroblob(40)", "value = substr(value, 1, 30)", "value = x''"])
def test_a_value_that_was_changed_on_disk_is_a_miss(cache: VectorCache, path: Path, change: str) -> None:
    cache.put_many({_key(n): _value(n) for n in range(2)})
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE vector SET {change} WHERE key = ?", (_key(0),))  # noqa: S608
    other.close()
    assert cache.get_many([_key(0), _key(1)]).keys() == {_key(1)}
    assert cache.damaged == 1
    assert cache.get_vectors([_key(0), _key(1)]).keys() == {_key(1)}
    assert cache.damaged == 2


def test_a_value_under_another_key_is_a_miss(cache: VectorCache, path: Path) -> None:
    cache.put_many({_key(0): _value(0)})
    with sqlite3.connect(path) as other:
        other.execute("UPDATE vector SET key = ?", (_key(1),))
    other.close()
    assert cache.get_many([_key(1)]) == {}


@pytest.mark.parametrize("junk", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 8_000])
def test_a_file_that_is_no_database_is_set_aside(path: Path, junk: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(junk)
    cache = VectorCache(path)
    assert cache.damaged == 1
    cache.put_many({_key(1): _value(1)})
    assert cache.get_many([_key(1)])
    cache.close()
    assert [p for p in path.parent.iterdir() if p.read_bytes() == junk]


def test_a_file_that_was_torn_is_never_served_wrong(path: Path) -> None:
    values = {_key(n): _value(n, 40) for n in range(200)}
    first = VectorCache(path)
    first.put_many(values)
    first.close()
    content = bytearray(path.read_bytes())
    for start in range(4_096 * 3, len(content), 4_096 * 5):
        content[start : start + 64] = b"\xee" * 64
    path.write_bytes(content[: len(content) * 3 // 4])
    cache = VectorCache(path)
    for key, value in cache.get_many(list(values)).items():
        assert _same(value, values[key])
    cache.put_many(values)
    assert cache.damaged > 0
    cache.close()
    path.write_bytes(content)
    again = VectorCache(path)
    for _ in range(2):
        for key in values:
            for got in again.get_many([key]).values():
                assert _same(got, values[key])
    again.put_many(values)
    assert again.get_many(list(values)).keys() <= values.keys()
    again.close()


def test_keys_differ_by_scope_language_title_and_text() -> None:
    sources = [SourceText("a", "b"), SourceText("ab", ""), SourceText("", "ab"), SourceText("a", "b", "de")]
    keys = {
        make_vector_key(scope, source)
        for scope in ("x", "y")
        for source in [*sources, SourceText("\ud800", "")]
    }
    assert len(keys) == 10
    assert all(len(key) == 16 for key in keys)


def test_vectors_that_do_not_match_the_cut_are_refused(cache: VectorCache) -> None:
    with pytest.raises(ValueError, match="passages"):
        cache.put_many({_key(1): CachedVectors(Cut(0, ()), np.ones((1, 4), np.float32))})


# who uses what


def _made(cache: VectorCache, *numbers: int) -> None:
    cache.put_many({_key(n): replace(_value(n), texts=bytes([n]) * 16) for n in numbers})


def _kept(cache: VectorCache, *numbers: int) -> list[int]:
    return [n for n in numbers if cache.get_vectors([_key(n)])]


def test_with_the_last_document_that_uses_it_a_value_goes(cache: VectorCache) -> None:
    first, second, third = Docno(1), Docno(2), Docno(3)
    cache.note_uses("a", {first: _key(1), second: _key(2)})
    cache.note_uses("b", {third: _key(1)})
    _made(cache, 1, 2)
    cache.note_uses("a", {first: None})
    assert _kept(cache, 1, 2) == [1, 2]
    assert cache.read_gone_texts() == {}
    cache.note_uses("b", {third: None})
    assert _kept(cache, 1, 2) == [2]
    gone = cache.read_gone_texts()
    assert list(gone.values()) == [bytes([1]) * 16]
    cache.forget_gone_texts(gone)
    assert cache.read_gone_texts() == {}


def test_a_document_that_is_written_again_uses_its_old_value_no_more(cache: VectorCache) -> None:
    cache.note_uses("a", {Docno(1): _key(1)})
    _made(cache, 1, 2)
    cache.note_uses("a", {Docno(1): _key(1)})
    assert _kept(cache, 1, 2) == [1, 2]
    cache.note_uses("a", {Docno(1): _key(2)})
    assert _kept(cache, 1, 2) == [2]


def test_a_deletion_counts_for_every_index_and_a_write_for_its_own(cache: VectorCache) -> None:
    cache.note_uses("a", {Docno(1): _key(1)})
    cache.note_uses("b", {Docno(1): _key(2)})
    _made(cache, 1, 2)
    cache.note_uses("a", {Docno(1): _key(3)})
    assert _kept(cache, 1, 2) == [2]
    cache.note_uses("a", {Docno(1): None})
    assert _kept(cache, 1, 2) == []


def test_what_only_a_forgotten_index_uses_goes(cache: VectorCache) -> None:
    cache.note_uses("a", {Docno(n): _key(n) for n in range(3)})
    cache.note_uses("b", {Docno(7): _key(1)})
    _made(cache, 0, 1, 2)
    assert cache.read_owners() == {"a", "b"}
    assert (cache.find_document("a"), cache.find_document("b"), cache.find_document("c")) == (0, 7, None)
    assert not cache.forget_some("a")
    assert cache.read_owners() == {"b"}
    assert _kept(cache, 0, 1, 2) == [1]


def test_an_index_is_forgotten_part_by_part(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "ERASED_ROWS", 2)
    cache.note_uses("a", {Docno(n): _key(n) for n in range(5)})
    _made(cache, *range(5))
    left = []
    while cache.forget_some("a"):
        left.append(len(_kept(cache, *range(5))))
    assert left == [3, 1]
    assert cache.count() == 0


def test_a_file_of_an_earlier_version_finds_by_index_what_an_owner_uses(path: Path) -> None:
    VectorCache(path).close()
    with contextlib.closing(sqlite3.connect(path)) as earlier:
        earlier.execute("DROP INDEX used_owner")
    VectorCache(path).close()
    with contextlib.closing(sqlite3.connect(path)) as now:
        plan = now.execute(f"EXPLAIN QUERY PLAN {vector_cache._FIND_USES}", ("a", 1)).fetchall()
    assert "USING INDEX used_owner (owner=?)" in str(plan)


@pytest.mark.parametrize("rows", [2, 500])
def test_what_nothing_ever_used_goes_when_it_is_old(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    def delete_unused(before_us: int) -> int:
        last, parts = cache.delete_unused(before_us), 1
        while last is not None:
            last, parts = cache.delete_unused(before_us, last), parts + 1
        return parts

    monkeypatch.setattr(vector_cache, "ERASED_ROWS", rows)
    cache.note_uses("a", {Docno(1): _key(1)})
    _made(cache, *range(1, 6))
    now_us = time.time_ns() // 1_000
    delete_unused(now_us - 60_000_000)
    assert _kept(cache, *range(1, 6)) == [1, 2, 3, 4, 5]
    assert delete_unused(now_us + 60_000_000) == 5 // rows + 1
    assert _kept(cache, *range(1, 6)) == [1]


def test_no_byte_of_a_deleted_value_is_left_once_the_log_is_empty(cache: VectorCache, path: Path) -> None:
    cache.note_uses("a", {Docno(n): _key(n) for n in range(50)})
    _made(cache, *range(50))
    vectors = _value(7).vectors.tobytes()
    cache.note_uses("a", {Docno(7): None})
    cache.empty_log()
    assert not any(vectors in file.read_bytes() for file in path.parent.iterdir())
    assert _kept(cache, *range(50)) == [n for n in range(50) if n != 7]
