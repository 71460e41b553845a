import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quarry.documents.passages import Cut, SourceText
from quarry.documents.vector_cache import CachedVectors, VectorCache, make_vector_key


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
