"""Holds each broken part to its contract, and names the tests that notice; run by test_broken_parts.py."""

from pathlib import Path

from tests.contract.broken_parts import (
    AnyBeginnings,
    AtOnce,
    BatchNorm,
    DeletedNeighbours,
    EarlyPosition,
    ExactSpelling,
    FilterAfterTheCut,
    HiddenBeginnings,
    HiddenCounts,
    LastOfEquals,
    Letters,
    MissingFirst,
    Neighbours,
    NoFilter,
    OtherScores,
    SilentCut,
    TooHigh,
    Unbounded,
    UncutBeginnings,
    UnfilteredCounts,
    ZerosAtTheEnd,
)
from tests.unit.miner.small import space_of

from quarry.models.base import CrossEncoder
from quarry.retrieval.base import (
    DenseStore,
    ExcerptIndex,
    LexicalIndex,
)
from quarry.retrieval.retriever import Retriever
from quarry.schema import Schema
from quarry.testing.cross_encoder import CrossEncoderContract
from quarry.testing.dense_store import DIMENSION, GENERATION, DenseStoreContract
from quarry.testing.excerpt_index import ExcerptIndexContract
from quarry.testing.lexical_index import LexicalIndexContract
from quarry.testing.lexical_languages import LexicalLanguagesContract
from quarry.testing.lexical_results import LexicalResultsContract
from quarry.testing.retriever import RetrieverContract
from quarry.testing.strategies import FILTER_SCHEMA
from quarry_miner.corpus import Corpus
from quarry_miner.members.members import Member
from quarry_miner.testing import MemberContract


class TestLastOfEquals(DenseStoreContract):
    lasting = False

    async def open_store(self, folder: Path) -> DenseStore:
        return LastOfEquals(GENERATION, DIMENSION)


class TestNoFilter(DenseStoreContract):
    lasting = False

    async def open_store(self, folder: Path) -> DenseStore:
        return NoFilter(GENERATION, DIMENSION)


class TestEarlyPosition(DenseStoreContract):
    lasting = False

    async def open_store(self, folder: Path) -> DenseStore:
        return EarlyPosition(GENERATION, DIMENSION)


class TestFilterAfterTheCut(LexicalIndexContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return FilterAfterTheCut("g1", FILTER_SCHEMA)


class TestAtOnce(LexicalIndexContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return AtOnce("g1", FILTER_SCHEMA)


class TestExactSpelling(LexicalLanguagesContract):
    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        return ExactSpelling("g1", schema)


class TestHiddenBeginnings(ExcerptIndexContract):
    def open_index(self, folder: Path, schema: Schema) -> ExcerptIndex:
        return HiddenBeginnings("g1", schema)


class TestUncutBeginnings(ExcerptIndexContract):
    def open_index(self, folder: Path, schema: Schema) -> ExcerptIndex:
        return UncutBeginnings("g1", schema)


class TestAnyBeginnings(ExcerptIndexContract):
    def open_index(self, folder: Path, schema: Schema) -> ExcerptIndex:
        return AnyBeginnings("g1", schema)


class TestDeletedNeighbours(LexicalIndexContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return DeletedNeighbours("g1", FILTER_SCHEMA)


class TestUnfilteredCounts(LexicalResultsContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return UnfilteredCounts("g1", FILTER_SCHEMA)


class TestHiddenCounts(LexicalResultsContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return HiddenCounts("g1", FILTER_SCHEMA)


class TestMissingFirst(LexicalResultsContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return MissingFirst("g1", FILTER_SCHEMA)


class TestUnbounded(RetrieverContract):
    async def open_retriever(self, folder: Path) -> Retriever:
        return Unbounded()


class TestTooHigh(RetrieverContract):
    async def open_retriever(self, folder: Path) -> Retriever:
        return TooHigh()


class TestOtherScores(RetrieverContract):
    async def open_retriever(self, folder: Path) -> Retriever:
        return OtherScores()


class TestLetters(CrossEncoderContract):
    """Keeps the contract: what the broken ones are made of is sound."""

    def open_model(self, folder: Path) -> CrossEncoder:
        return Letters()


class TestBatchNorm(CrossEncoderContract):
    def open_model(self, folder: Path) -> CrossEncoder:
        return BatchNorm()


class TestSilentCut(CrossEncoderContract):
    def open_model(self, folder: Path) -> CrossEncoder:
        return SilentCut()


class TestNeighbours(MemberContract):
    def open_member(self, corpus: Corpus, folder: Path) -> Member:
        return Neighbours(space_of(corpus))


class TestZerosAtTheEnd(MemberContract):
    def open_member(self, corpus: Corpus, folder: Path) -> Member:
        return ZerosAtTheEnd(space_of(corpus))


NOTICED: dict[type, list[str]] = {
    TestLastOfEquals: ["test_equal_documents_are_ordered_and_cut_by_docno"],
    TestNoFilter: ["test_every_edge_of_every_type_is_filtered_exactly"],
    TestEarlyPosition: ["test_the_position_moves_with_flush_and_not_before"],
    TestFilterAfterTheCut: ["test_browsing_finds_the_first_that_pass_however_many_do_not"],
    TestAtOnce: ["test_changes_are_not_seen_before_the_commit"],
    TestHiddenBeginnings: ["test_only_what_passes_the_filter_is_read"],
    TestUncutBeginnings: ["test_a_query_gives_as_many_as_it_asks_for_and_says_how_many_match"],
    TestAnyBeginnings: ["test_a_query_finds_the_beginnings_with_all_its_words_and_no_others"],
    TestDeletedNeighbours: ["test_what_shared_files_with_something_deleted_can_be_written_again"],
    TestExactSpelling: ["test_a_title_is_found_without_its_accents_and_counts_more"],
    TestUnfilteredCounts: ["test_the_filter_counts_and_a_text_without_words_matches_nothing"],
    TestHiddenCounts: ["test_hidden_documents_are_not_counted_or_ordered"],
    TestMissingFirst: ["test_an_order_has_missing_values_last_either_way"],
    TestUnbounded: ["test_documents_come_once_and_best_first"],
    TestTooHigh: ["test_scores_lie_between_the_lowest_and_the_highest_that_it_names"],
    TestOtherScores: ["test_other_documents_get_the_scores_that_a_deeper_search_gives_them"],
    TestLetters: [],
    TestBatchNorm: ["test_threads_get_the_same_scores"],
    TestSilentCut: ["test_cut_texts_are_told", "test_what_is_beyond_the_cut_is_not_read"],
    TestNeighbours: ["test_a_row_does_not_depend_on_the_queries_beside_it"],
    TestZerosAtTheEnd: ["test_rows_hold_each_document_once_best_first_and_end_in_padding"],
}
"""The tests that each class must fail at least; all others are not asked."""
