"""Counts the hits that paging reaches, and those of them that no word of the query matched."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from quarry.ranking.fusion import ArmRun
from quarry.ranking.queries import MAX_RANKED
from quarry.ranking.ranking import Reach, ReachLimit, Total
from quarry.types import Candidate, Docno


@dataclass(frozen=True, slots=True)
class WordMatches:
    """The words that match in a merged list, as far as BM25 says.

    Attributes:
        matched: documents on the list that BM25 gave or scored.
        unscored: documents on the list of which it said nothing.
        below: documents that match and that it neither gave nor scored; of ``unscored``, some may be such.
        known: it answered, and what matches was counted.
    """

    matched: int
    unscored: int
    below: int
    known: bool

    @property
    def below_least(self) -> int:
        """Documents that match and that are not on the list, at least."""
        return max(0, self.below - self.unscored)

    def count_by_meaning(self, listed: int) -> Total:
        """Counts the documents on the list that match no word."""
        if not self.known:
            return Total(0, exact=not listed)
        doubtful = min(self.unscored, self.below)
        return Total(listed - self.matched - doubtful, exact=not doubtful)


def count_word_matches(
    listed: Collection[Docno], run: ArmRun | None, found: Mapping[Docno, Candidate], counted: int | None
) -> WordMatches:
    """Counts what BM25 says of the documents on a list.

    Args:
        run: BM25's; None if it was not asked, or did not answer.
        found: all that BM25 gave or scored and that matches a word.
        counted: documents that match in all; None if nobody counted them.
    """
    documents = set(listed)
    matched = len(documents.intersection(found))
    unscored = len(documents.difference(found, run.others if run is not None else ()))
    return WordMatches(matched, unscored, max(0, (counted or 0) - len(found)), counted is not None)


def measure_reach(matches: WordMatches, listed: int, deepens: bool) -> Reach:
    """Measures how far paging comes in a list of ``listed`` documents.

    Args:
        deepens: what BM25 finds beyond its depth follows below the list.
    """
    by_meaning = matches.count_by_meaning(listed)
    if not matches.known:
        return Reach(Total(listed, exact=True), ReachLimit.DEGRADED, by_meaning)
    if not deepens or not matches.below:
        limit = ReachLimit.LIST_SIZE if listed >= MAX_RANKED else ReachLimit.ARM_DEPTH
        return Reach(Total(listed, exact=True), limit if matches.below else ReachLimit.NONE, by_meaning)
    least, most = listed + matches.below_least, listed + matches.below
    hits = Total(min(MAX_RANKED, least), exact=least == most or least >= MAX_RANKED)
    return Reach(hits, ReachLimit.NONE if most <= MAX_RANKED else ReachLimit.LIST_SIZE, by_meaning)


def measure_relevant_reach(matches: WordMatches, relevant: Total) -> Reach:
    """Measures how far paging comes where only what is ``relevant`` is listed."""
    limit = ReachLimit.NONE if relevant.exact else ReachLimit.RERANK_DEPTH
    return Reach(Total(relevant.count, exact=True), limit, matches.count_by_meaning(relevant.count))
