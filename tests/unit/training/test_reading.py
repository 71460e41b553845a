"""A model says what it was trained on, wherever its files go."""

from pathlib import Path

import pytest

from quarry.errors import ModelError
from quarry.training.marks import document_mark, former_query_mark, query_marks
from quarry.training.reading import READING, Reading, joined, reading_of

FIRST = Reading(query_marks(["how do I pay?"]), frozenset({document_mark("faq", "d1")}), frozenset({"base"}))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    FIRST.write(tmp_path)
    found = reading_of(tmp_path, "faq@1")
    assert found == FIRST
    assert found.has_query("How do  I pay?")
    assert not found.has_query("how do we pay?")


def test_what_an_earlier_version_wrote_down_is_known_by_the_text_that_it_read(tmp_path: Path) -> None:
    """Its marks were of the text with case and spaces evened out, and punctuation kept."""
    Reading(frozenset({former_query_mark("how do I pay?")})).write(tmp_path)
    found = reading_of(tmp_path, "faq@1")
    assert found.has_query("How do I  pay?")
    assert not found.has_query("how do we pay?")


def test_documents_are_known_by_collection_and_id(tmp_path: Path) -> None:
    FIRST.write(tmp_path)
    found = reading_of(tmp_path, "faq@1")
    assert found.has_document("faq", "d1")
    assert not found.has_document("help", "d1")


def test_a_line_of_models_has_read_what_any_of_them_has() -> None:
    second = Reading(query_marks(["another"]), frozenset({document_mark("faq", "d2")}))
    both = joined([FIRST, second])
    assert both == Reading(FIRST.queries | second.queries, FIRST.documents | second.documents, FIRST.silent)
    assert joined([]) == Reading()


def test_a_model_that_was_made_elsewhere_is_silent(tmp_path: Path) -> None:
    assert reading_of(tmp_path, "faq@1") == Reading(silent=frozenset({"faq@1"}))


@pytest.mark.parametrize("text", ["", "{}", '{"queries": "AAAA", "documents": "", "silent": []}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / READING).write_text(text)
    with pytest.raises(ModelError, match="faq@1"):
        reading_of(tmp_path, "faq@1")


def test_it_takes_eleven_bytes_a_mark(tmp_path: Path) -> None:
    Reading(query_marks(f"query {n}" for n in range(20_000))).write(tmp_path)
    assert (tmp_path / READING).stat().st_size < 20_000 * 11
