"""The contract of ``quarry_miner.members.members.Member``, for our tests and for those of others.

It needs pytest (the extra ``testing``); docs/how-to/test-a-part.md shows how to use it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from quarry.schema import Field, FieldType, Schema
from quarry.types import Fields
from quarry_miner.corpus import Corpus
from quarry_miner.members.members import NO_DOCUMENT, Member

SCHEMA = Schema((Field("title", FieldType.TEXT, is_title=True), Field("text", FieldType.TEXT)))
WORDS = [f"{a}{b}" for a in ("ba", "de", "ki", "lo", "mu") for b in ("na", "ro", "si", "tu", "fe")]


def draw_texts(count: int, seed: int, length: int = 6) -> list[str]:
    """Draws texts of ``WORDS`` by a seed."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=length)) for _ in range(count)]


def make_corpus(texts: Sequence[str]) -> Corpus:
    """Makes a corpus of documents called ``d000``, ``d001``, ..., one for each text."""
    documents: list[tuple[str, Fields]] = [(f"d{i:03}", {"text": text}) for i, text in enumerate(texts)]
    return Corpus.from_documents(documents, SCHEMA)


TEXTS = draw_texts(40, seed=5)
CORPUS = make_corpus(TEXTS)
QUERIES = [" ".join(text.split()[:3]) for text in TEXTS[:9]]


class MemberContract:
    """The promises of every member of a mining ensemble. Subclass it as ``Test...`` and write
    ``open_member``.

    A subclass that must close what it opens overrides the fixture ``member`` instead.

    Attributes:
        leaves_room: whether a row may end early because the member found documents that the corpus does not
            know.
    """

    leaves_room = False

    def open_member(self, corpus: Corpus, folder: Path) -> Member:
        """Opens a member that searches ``corpus``; ``folder`` is empty and the test's own."""
        raise NotImplementedError

    @pytest.fixture
    def member(self, tmp_path: Path) -> Member:
        return self.open_member(CORPUS, tmp_path)

    @pytest.mark.parametrize("depth", [1, 7, 40, 60])
    def test_rows_hold_each_document_once_best_first_and_end_in_padding(
        self, member: Member, depth: int
    ) -> None:
        listed = member.search(QUERIES, depth)
        assert listed.documents.shape == listed.scores.shape == (len(QUERIES), depth)
        assert listed.documents.dtype == np.int32
        assert listed.scores.dtype == np.float32
        for documents, scores in zip(listed.documents, listed.scores, strict=True):
            size = int((documents != NO_DOCUMENT).sum())
            assert 0 < size <= len(CORPUS)
            assert (documents[size:] == NO_DOCUMENT).all()
            assert np.isnan(scores[size:]).all()
            assert len(set(documents[:size].tolist())) == size
            assert documents[:size].max() < len(CORPUS)
            assert (np.diff(scores[:size]) <= 0).all()

    def test_a_row_does_not_depend_on_the_queries_beside_it(self, member: Member) -> None:
        together, alone = member.search(QUERIES, 10), member.search(QUERIES[4:5], 10)
        assert together.documents[4].tolist() == alone.documents[0].tolist()
        assert together.scores[4].tolist() == pytest.approx(alone.scores[0].tolist(), nan_ok=True)

    def test_a_shallower_list_is_the_beginning_of_a_deeper_one(self, member: Member) -> None:
        deep, shallow = member.search(QUERIES, 20), member.search(QUERIES, 5)
        for more, fewer in zip(deep.documents.tolist(), shallow.documents.tolist(), strict=True):
            known = [number for number in fewer if number != NO_DOCUMENT] if self.leaves_room else fewer
            assert more[: len(known)] == known

    def test_no_queries_have_no_rows(self, member: Member) -> None:
        assert member.search([], 5).documents.shape == (0, 5)

    def test_equal_searches_give_equal_rows(self, member: Member) -> None:
        first, second = member.search(QUERIES, 10), member.search(QUERIES, 10)
        assert first.documents.tolist() == second.documents.tolist()
