"""A model says what it was trained on, wherever its files go."""

from pathlib import Path

import orjson
import pytest

from quarry.errors import ModelError
from quarry.training.hashes import mark_document, mark_former_query, mark_queries
from quarry.training.provenance import PROVENANCE, TrainingProvenance, join_provenances, read_provenance

FIRST = TrainingProvenance(
    mark_queries(["how do I pay?"]),
    frozenset({mark_document("faq", "d1")}),
    frozenset({"base"}),
    frozenset({mark_document("faq", "title:paying")}),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    FIRST.write(tmp_path)
    found = read_provenance(tmp_path, "faq@1")
    assert found == FIRST
    assert found.has_query("How do  I pay?")
    assert not found.has_query("how do we pay?")


def test_what_an_earlier_version_wrote_down_is_known_by_the_text_that_it_read(tmp_path: Path) -> None:
    """Its marks were of the text with case and spaces evened out, and punctuation kept."""
    TrainingProvenance(frozenset({mark_former_query("how do I pay?")})).write(tmp_path)
    found = read_provenance(tmp_path, "faq@1")
    assert found.has_query("How do I  pay?")
    assert not found.has_query("how do we pay?")


def test_a_version_from_before_the_file_was_renamed_still_says_what_it_read(tmp_path: Path) -> None:
    FIRST.write(tmp_path)
    kept = orjson.loads((tmp_path / PROVENANCE).read_bytes())
    (tmp_path / PROVENANCE).unlink()
    kept["silent"] = kept.pop("unknown_lineage")
    (tmp_path / "reading.json").write_bytes(orjson.dumps(kept))
    assert read_provenance(tmp_path, "faq@1") == FIRST


def test_documents_are_known_by_collection_and_id(tmp_path: Path) -> None:
    FIRST.write(tmp_path)
    found = read_provenance(tmp_path, "faq@1")
    assert found.has_document("faq", "d1")
    assert not found.has_document("help", "d1")


def test_what_documents_speak_of_is_known_by_collection_and_name(tmp_path: Path) -> None:
    FIRST.write(tmp_path)
    found = read_provenance(tmp_path, "faq@1")
    assert found.has_entity("faq", "title:paying")
    assert not found.has_entity("help", "title:paying")
    assert not found.has_document("faq", "title:paying")


def test_a_file_that_names_nothing_that_documents_speak_of_is_read(tmp_path: Path) -> None:
    text = '{"format": 1, "queries": "", "documents": "", "unknown_lineage": []}'
    (tmp_path / PROVENANCE).write_text(text)
    assert read_provenance(tmp_path, "faq@1") == TrainingProvenance()


def test_a_line_of_models_has_read_what_any_of_them_has() -> None:
    second = TrainingProvenance(mark_queries(["another"]), frozenset({mark_document("faq", "d2")}))
    both = join_provenances([FIRST, second])
    assert both == TrainingProvenance(
        FIRST.queries | second.queries,
        FIRST.documents | second.documents,
        FIRST.unknown_lineage,
        FIRST.entities,
    )
    assert join_provenances([]) == TrainingProvenance()


def test_a_model_that_was_made_elsewhere_is_silent(tmp_path: Path) -> None:
    assert read_provenance(tmp_path, "faq@1") == TrainingProvenance(unknown_lineage=frozenset({"faq@1"}))


@pytest.mark.parametrize("text", ["", "{}", '{"queries": "AAAA", "documents": "", "unknown_lineage": []}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / PROVENANCE).write_text(text)
    with pytest.raises(ModelError, match="faq@1"):
        read_provenance(tmp_path, "faq@1")


def test_it_takes_eleven_bytes_a_mark(tmp_path: Path) -> None:
    TrainingProvenance(mark_queries(f"query {n}" for n in range(20_000))).write(tmp_path)
    assert (tmp_path / PROVENANCE).stat().st_size < 20_000 * 11
