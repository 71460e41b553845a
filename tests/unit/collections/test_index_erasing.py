from pathlib import Path

import pytest

from quarry.collections.index_erasing import FILE, ErasedMarks


def test_what_was_skipped_is_stored_with_the_next_erasure(tmp_path: Path) -> None:
    marks = ErasedMarks(tmp_path)
    assert marks.read("bm25") == 0
    marks.skip_to("bm25", 7)
    assert (marks.read("bm25"), ErasedMarks(tmp_path).read("bm25")) == (7, 0)
    marks.write("dense", 9)
    again = ErasedMarks(tmp_path)
    assert (again.read("bm25"), again.read("dense")) == (7, 9)


@pytest.mark.parametrize("content", ["", "[]", '{"dense": "x"}', "\0"])
def test_marks_that_cannot_be_read_count_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert ErasedMarks(tmp_path).read("dense") == 0
