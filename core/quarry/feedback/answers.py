"""Logs the pages that searches gave out, and signs the tokens by which events refer to them."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from quarry.documents.catalog import read_now_us
from quarry.documents.vectors import read_source
from quarry.feedback.attribution_tokens import Attribution, TokenSigner, compute_page_digest
from quarry.feedback.contents import TextSource
from quarry.feedback.impressions import AnsweredPage, ContentOf
from quarry.feedback.types import Impression, LoggedHit
from quarry.ranking.ranking import RankedDocument
from quarry.schema import Schema
from quarry.search.exploration import compute_seed, undo_exploration
from quarry.search.page_log import GivenPage
from quarry.types import Docno, Fields


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The candidates, beside the shown ones, that are logged with a ranking's first page.

    Attributes:
        depth: so many of the best fused ones.
        rate: for this share of searches.
    """

    depth: int = 50
    rate: float = 1.0


class PageBuffer(Protocol):
    """Takes pages to be written later, as ``ImpressionLog`` does."""

    def offer(self, page: AnsweredPage) -> bool:
        """Returns False if the page is dropped. Never waits."""
        ...


class AnswerLog:
    """Signs and logs pages. Lives on the event loop and never makes it wait."""

    def __init__(self, impressions: PageBuffer, signer: TokenSigner, pool: PoolPolicy) -> None:
        self._impressions, self._signer, self._pool = impressions, signer, pool
        self._random = random.Random()

    def log(self, page: GivenPage) -> str:
        """Takes a page to be logged; returns its attribution token."""
        first = page.place.offset == 0
        depth = self._pool.depth if first and self._random.random() < self._pool.rate else 0
        impression = ImpressionMaker(page, read_now_us(), depth, self._pool.rate)
        source = TextSource(page.collection, page.documents, make_text_reader(page.schema))
        self._impressions.offer(AnsweredPage(source, impression))
        return self._signer.sign(
            Attribution(
                page.place.key,
                page.place.offset,
                page.collection,
                page.ranking.configuration,
                compute_page_digest(id for _, _, id, _ in page.shown),
            )
        )


def make_text_reader(schema: Schema) -> Callable[[Fields], str]:
    """Returns what reads the text that the log keeps of a document.

    That is the title, and below it what encoder and re-ranker read.
    """

    def read(fields: Fields) -> str:
        source = read_source(schema, fields)
        return f"{source.title}\n{source.text}".strip()

    return read


@dataclass(slots=True)
class ImpressionMaker:
    """Makes the impression of a page, later and in another thread."""

    page: GivenPage
    time_us: int
    pool_depth: int
    pool_rate: float
    _pool: list[RankedDocument] | None = None

    def read_versions(self) -> Iterator[tuple[Docno, int]]:
        for _, ranked, _, version in self.page.shown:
            yield ranked.docno, version
        for ranked in self._select_pool():
            yield ranked.docno, ranked.version

    def make_impression(self, content: ContentOf) -> Impression:
        page, ranking = self.page, self.page.ranking
        exploration = page.request.exploration
        return Impression(
            page.place.key,
            page.place.offset,
            self.time_us,
            page.request.text,
            page.request.context,
            tuple(self._make_shown(content)),
            ranking.generation,
            page.request.filter,
            tuple(
                self._make_hit(r, r.id, r.version, r.fused_rank, content(r.docno, r.version))
                for r in self._select_pool()
            ),
            self.pool_rate,
            exploration.policy,
            compute_seed(page.place.key) if exploration.swap_probability else 0,
            ranking.configuration,
            ranking.reranker,
            self._count_depth(),
            tuple(f"{d.stage}:{d.reason}" for d in ranking.degraded),
            cascade=self._name_cascade(),
            tuned=ranking.tuned,
            pinned=ranking.pinned,
        )

    def _name_cascade(self) -> tuple[str, ...]:
        rerankers = self.page.ranking.rerankers
        return rerankers if len(rerankers) > 1 else ()

    def _make_shown(self, content: ContentOf) -> Iterator[LoggedHit]:
        exploration, pinned = self.page.request.exploration, self.page.ranking.pinned
        length = max(0, self.page.explored - pinned)
        order = exploration.draw_order(compute_seed(self.page.place.key), length)
        for place, ranked, id, version in self.page.shown:
            text = content(ranked.docno, version)
            if place < pinned:
                yield self._make_hit(ranked, id, version, place + 1, text)
                continue
            shown = place - pinned
            before = order[shown] if shown < len(order) else shown
            probability = exploration.compute_probability(before, shown, length)
            yield self._make_hit(ranked, id, version, place + 1, text, pinned + before + 1, probability)

    def _select_pool(self) -> list[RankedDocument]:
        """Selects the best fused candidates; re-ranking has moved those that it read among themselves."""
        if self._pool is None:
            ranking = self.page.ranking
            reach = max(self.pool_depth, self._count_depth()) + ranking.pinned if self.pool_depth else 0
            first = undo_exploration(ranking.documents)[:reach]
            found = [ranked for ranked in first if 0 < ranked.fused_rank <= self.pool_depth]
            self._pool = sorted(found, key=lambda ranked: ranked.fused_rank)
        return self._pool

    def _count_depth(self) -> int:
        if not self.page.ranking.reranker:
            return 0
        documents = undo_exploration(self.page.ranking.documents)[self.page.ranking.pinned :]
        return sum(1 for _ in itertools.takewhile(lambda d: d.rerank_score is not None, documents))

    def _make_hit(
        self,
        ranked: RankedDocument,
        id: str,
        version: int,
        rank: int,
        content: str,
        before: int = 0,
        probability: float = 1.0,
    ) -> LoggedHit:
        read = {reading.model: reading.score for reading in ranked.readings}
        return LoggedHit(
            id,
            version,
            rank,
            ranked.score,
            ranked.fused_score,
            ranked.rerank_score,
            {name: (place.rank, place.score) for name, place in ranked.arms.items()},
            content,
            before or rank,
            probability,
            tuple(read.get(model) for model in self._name_cascade()),
        )
