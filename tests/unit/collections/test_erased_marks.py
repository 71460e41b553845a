from pathlib import Path

import pytest

from quarry.collections.erased_marks import FILE, ErasedMarks


def test_what_was_erased_is_known_after_a_start_and_what_was_skipped_is_not(tmp_path: Path) -> None:
    marks = ErasedMarks(tmp_path)
    assert marks.read("bm25") == 0
    marks.skip_to("bm25", 7)
    marks.write("dense", 9)
    assert (marks.read("bm25"), marks.read("dense")) == (7, 9)
    assert ErasedMarks(tmp_path).read("dense") == 9


@pytest.mark.parametrize("content", ["", "[]", '{"dense": "x"}', "\0"])
def test_marks_that_cannot_be_read_count_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert ErasedMarks(tmp_path).read("dense") == 0
