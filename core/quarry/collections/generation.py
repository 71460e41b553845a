"""One generation of a collection: its indexes, what keeps them up, and what searches them."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.collections.consistency import ArmDifferences
from quarry.collections.index_erasing import ErasableIndex, IndexEraser
from quarry.collections.suggestions import NAME as SUGGESTIONS
from quarry.collections.suggestions import SuggestionIndex
from quarry.deadline import NO_LIMIT, Deadline
from quarry.documents.catalog import Collection
from quarry.documents.follower import Follower
from quarry.documents.store import DocumentLog
from quarry.documents.vectors import DocumentVectors
from quarry.errors import DataLossError, ModelError, QuarryError, RetrieverUnavailableError
from quarry.filters import Filter
from quarry.ranking.ranking import Degradation
from quarry.retrieval.base import ExcerptIndex
from quarry.retrieval.definition import ArmDefinition, ArmSite, Engines, OpenArm
from quarry.retrieval.inspection import Inspection, VectorSample
from quarry.retrieval.registry import ARMS, find_browsing_arm
from quarry.retrieval.retriever import QueryEncoder, Retrieved, Retriever
from quarry.retrieval.text_query import SearchText
from quarry.search.first_stage import FirstStage
from quarry.search.phrases import IsStopWord
from quarry.search.pipeline import Reranking, Searcher
from quarry.search.shortfalls import ArmState, find_shortfall
from quarry.search.suggesting import Suggesting, Suggestion, SuggestRequest
from quarry.types import Change, Docno

logger = logging.getLogger(__name__)

BEHIND_AFTER_S = 2.0
"""How long an arm may lack what was written before it counts as behind."""
REWRITTEN_BYTES = 16 * 2**20
"""Of documents that are written again at once: they are in memory, and other writes wait for them."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
"""Pauses before an arm that could not be opened is tried again."""


@dataclass(frozen=True, slots=True)
class DenseParts:
    """The encoder of a collection, and what it makes of documents.

    Attributes:
        dimension: of the encoder's vectors.
        max_tokens: longest passage that it reads.
    """

    encoder: QueryEncoder
    vectors: DocumentVectors
    dimension: int
    max_tokens: int


LoadDense = Callable[[], Awaitable[DenseParts | None]]
"""Raises QuarryError if a model cannot be had now."""


class FailedRetriever:
    """An arm that could not be opened: every search says so."""

    def __init__(self, name: str, cause: str) -> None:
        self.name, self._cause = name, cause

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        raise RetrieverUnavailableError(self.name, self._cause)

    async def read_vectors(self, docnos: Iterable[Docno]) -> Mapping[Docno, NDArray[np.float32]]:
        raise RetrieverUnavailableError(self.name, self._cause)

    def search_for_vector(self, vector: NDArray[np.float32] | None) -> "FailedRetriever":
        return self


class Generation:
    """Open indexes, followed and searchable. Made by ``open``, ended by ``close``.

    Attributes:
        searcher: ranks its documents.
        followers: by arm; an arm that could not be opened has none.
        failures: by arm, why it could not be opened.
    """

    def __init__(
        self,
        collection: Collection,
        folder: Path,
        log: DocumentLog,
        engines: Engines,
        threads: Executor,
        answering: Executor,
        behind_after_s: float = BEHIND_AFTER_S,
    ) -> None:
        """Takes in ``answering`` what ``Searcher`` takes."""
        self._answering, self._behind_after_s = answering, behind_after_s
        self.name = collection.generation
        self._schema = collection.settings.schema
        self._folder = folder
        self._log = log
        self._engines = engines
        self._threads = threads
        self._catch_up_to = collection.last_sequence
        self._arms: dict[str, OpenArm] = {}
        self._eraser = IndexEraser(folder, log)
        self._encoding: DenseParts | None = None
        self._reopening: list[asyncio.Task[None]] = []
        self._suggestions = SuggestionIndex(
            folder / SUGGESTIONS, self.name, self._schema, engines, log, behind_after_s
        )
        self.followers: dict[str, Follower] = {}
        self.failures: dict[str, str] = {}
        self.searcher: Searcher

    async def open(self, dense: LoadDense, reranking: Callable[[DenseParts | None], Reranking]) -> None:
        """Opens every arm that the collection has, and starts following the log.

        An arm whose model or store cannot be had now is tried again until it can; the one that browses must
        open at once.

        Args:
            dense: loads the collection's encoder; gives None for a collection without one.

        Raises:
            QuarryError: the arm that browses cannot be opened.
        """

        async def load_encoding() -> DenseParts | None:
            if self._encoding is None:
                try:
                    self._encoding = await dense()
                except DataLossError as error:  # the model's, not the index's
                    raise ModelError(str(error)) from error
            return self._encoding

        retrievers = [await self._open_or_note(arm, load_encoding) for arm in ARMS.values()]
        browsing = find_browsing_arm().name
        lexical = self._arms[browsing].lexical if browsing in self._arms else None
        if lexical is None:
            raise RetrieverUnavailableError(browsing, "it has no index that browses")
        self.searcher = Searcher(
            self.name,
            FirstStage(
                [retriever for retriever in retrievers if retriever is not None],
                lexical,
                self.read_arm_state,
                self._threads,
            ),
            self._log,
            reranking(self._encoding),
            self._threads,
            self._answering,
        )
        for name in list(self.failures):  # not before: what opens again takes its place in the searcher
            again = self._reopen(ARMS[name], load_encoding)
            self._reopening.append(asyncio.create_task(again, name=f"reopen-{name}"))

    async def _open_or_note(self, arm: ArmDefinition, encoding: LoadDense) -> Retriever | None:
        """Opens an arm, or notes why it cannot be had and gives a retriever that says so.

        None if the collection has no such arm.
        """
        try:
            return await self._open_arm(arm, encoding)
        except QuarryError as error:
            if arm.browses:
                raise
            logger.error("the %s arm cannot be opened, and will be tried again: %s", arm.name, error)
            self.failures[arm.name] = str(error)
            return FailedRetriever(arm.name, str(error))

    async def _reopen(self, arm: ArmDefinition, encoding: LoadDense) -> None:
        pause_s = FIRST_RETRY_S
        while arm.name in self.failures:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            try:
                retriever = await self._open_arm(arm, encoding)
                if retriever is not None:
                    self.searcher.first_stage.use(retriever)
                self.failures.pop(arm.name)
            except QuarryError as error:
                self.failures[arm.name] = str(error)

    async def _open_arm(self, arm: ArmDefinition, encoding: LoadDense) -> Retriever | None:
        """Opens an arm and follows it. Raises QuarryError if it cannot be had now."""
        folder = self._folder / arm.name
        site = ArmSite(folder, self.name, self._schema, self._engines, self._threads, encoding)
        opened = await _open_or_set_aside(arm, site)
        if opened is None:
            return None
        try:
            await self._follow(arm, opened)
        except BaseException:
            await opened.close()
            raise
        self._arms[arm.name] = opened
        return opened.retriever

    async def _follow(self, arm: ArmDefinition, opened: OpenArm) -> None:
        follower = Follower(
            opened.index, self.name, self._log.read_changes, self._log.read_last_sequence, arm.follow
        )
        await follower.start(replay=await self._is_short(opened))
        self.followers[arm.name] = follower

    async def _is_short(self, opened: OpenArm) -> bool:
        """Tells whether an arm holds fewer documents than its position says: no engine notices all damage."""
        held, position = await opened.count(), (await opened.index.read_position()).sequence
        expected = await asyncio.to_thread(self._log.count, position)
        if held >= expected or position > self._catch_up_to:
            return False
        logger.error(
            "the %s arm holds %d documents and should have %d: it is filled from the log again",
            *(opened.index.arm, held, expected),
        )
        return True

    @property
    def vectors(self) -> DocumentVectors | None:
        """What encodes its documents, once an arm that compares their passages is open; else None."""
        compared = any(ARMS[name].compares_passages for name in self._arms)
        return self._encoding.vectors if compared and self._encoding is not None else None

    @property
    def visible(self) -> int:
        """Every arm answers with everything up to this sequence number; 0 if one is not open."""
        if self.failures:
            return 0
        return min((follower.visible for follower in self.followers.values()), default=0)

    @property
    def is_filled(self) -> bool:
        """Whether every arm has held all documents that there were when the generation was opened."""
        return self.visible >= self._catch_up_to

    def find_problem(self, arm: str) -> str:
        """Tells why an arm stands still now; empty if it does not."""
        follower, opened = self.followers.get(arm), self._arms.get(arm)
        hangs = opened.problem if opened else None
        return self.failures.get(arm) or hangs or (follower.error if follower else None) or ""

    @property
    def problem(self) -> str:
        """Why an arm stands still now; empty if none does."""
        arms = dict.fromkeys([*self.failures, *self.followers])
        return "; ".join(f"{arm}: {error}" for arm in arms if (error := self.find_problem(arm)))

    def read_arm_state(self, arm: str) -> ArmState:
        """Tells how far an arm is; one that is not followed is nowhere."""
        follower = self.followers.get(arm)
        if follower is None:
            return ArmState(0, None)
        lacking = follower.error  # set when it is halted, too
        if lacking is None and follower.visible < self._catch_up_to:
            lacking = "it does not hold all documents yet"
        late_s = follower.lag.seconds
        behind = (
            f"it has lacked what was written for {late_s:.0f} s" if late_s > self._behind_after_s else None
        )
        return ArmState(follower.visible, lacking, behind)

    def notify(self) -> None:
        """Tells the followers that the log has grown."""
        for follower in self.followers.values():
            follower.notify()
        self._suggestions.notify()

    async def suggest(
        self, request: SuggestRequest, is_stop: IsStopWord, deadline: Deadline
    ) -> tuple[list[Suggestion], list[Degradation]]:
        """Completes what is typed, and tells why documents may be missing.

        Raises:
            TimeoutError: there was not time enough.
            RetrieverUnavailableError: the index cannot be had.
        """
        loop = asyncio.get_running_loop()

        async def ask(index: ExcerptIndex) -> tuple[list[Suggestion], list[Degradation]]:
            suggesting = Suggesting(index, self._log, request, is_stop)
            shortfall = find_shortfall(SUGGESTIONS, self._suggestions.read_state())
            return await loop.run_in_executor(self._threads, suggesting.suggest), shortfall

        async with asyncio.timeout(deadline.timeout_s):
            return await self._suggestions.ask(deadline, self.visible, ask)

    async def wait_visible(self, sequence: int, timeout_s: float | None, after: int = 0) -> bool:
        """Waits until every arm answers with everything that was written after ``after``, up to ``sequence``.

        Returns at the latest after ``timeout_s``, and tells whether they do.
        """
        waits = (f.wait_visible(sequence, timeout_s, after) for f in self.followers.values())
        return all(await asyncio.gather(*waits)) and not self.failures

    def get_open_arm(self, arm: str) -> OpenArm:
        """Returns an arm that is open. Raises RetrieverUnavailableError for one that is not."""
        if arm not in self._arms:
            raise RetrieverUnavailableError(arm, self.failures.get(arm, "it is not open"))
        return self._arms[arm]

    async def look_inside(
        self, arm: ArmDifferences, sample: VectorSample, deadline: Deadline
    ) -> ArmDifferences:
        """Adds to ``arm`` what it finds wrong in itself: with its files, or with its vectors."""
        inspection = Inspection(arm.compared, self.followers[arm.arm], self._log, sample, deadline)
        found = await self.get_open_arm(arm.arm).inspect(inspection)
        return replace(
            arm,
            files=found.files,
            damaged=sorted(found.damaged),
            vectors=found.vectors,
            encoded=found.encoded,
            wrongly_encoded=found.wrongly_encoded,
        )

    async def erase(self, before_us: int) -> None:
        """Erases deleted documents from the files of all indexes, as ``IndexEraser.erase`` says."""
        indexes = {name: self._make_erasable(arm, self.followers[name]) for name, arm in self._arms.items()}
        indexes[SUGGESTIONS] = ErasableIndex(self._log.read_last_sequence, self._suggestions.erase)
        await self._eraser.erase(indexes, before_us)

    def _make_erasable(self, arm: OpenArm, follower: Follower) -> ErasableIndex:
        return ErasableIndex(lambda: follower.durable, partial(arm.erase, partial(self._rewrite, follower)))

    async def _rewrite(self, follower: Follower, docnos: Sequence[Docno]) -> None:
        for some in await asyncio.to_thread(self._log.split_by_size, docnos, REWRITTEN_BYTES):
            async with follower.pause():
                documents = await asyncio.to_thread(self._log.read, some)
                await follower.correct([Change(d.docno, d.version, d.fields) for d in documents.values()])

    async def close(self) -> None:
        """Stops following and releases files and processes, all of them whatever fails on the way."""
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(self._close_arms)
            closing.push_async_callback(self._suggestions.close)
            await self._eraser.close()
            for task in self._reopening:
                task.cancel()
            await asyncio.gather(*self._reopening, return_exceptions=True)
            for follower in self.followers.values():
                closing.push_async_callback(follower.stop)

    async def _close_arms(self) -> None:
        async with contextlib.AsyncExitStack() as closing:
            for opened in self._arms.values():
                closing.push_async_callback(opened.close)


def notify_all(generations: Iterable[Generation]) -> None:
    """Tells all who follow one log that it has grown."""
    for generation in generations:
        generation.notify()


async def _open_or_set_aside(arm: ArmDefinition, site: ArmSite) -> OpenArm | None:
    """Opens an arm; an index that cannot be read is set aside, and the log fills a new one."""
    try:
        return await arm.open(site)
    except DataLossError as error:
        logger.error("the index %s is set aside and rebuilt from the log: %s", arm.name, error)
        await asyncio.to_thread(_set_aside, site.folder)
        return await arm.open(site)


def _set_aside(folder: Path) -> None:
    if folder.exists():  # vectors on a Qdrant server have none
        shutil.move(folder, folder.with_name(f"{folder.name}.damaged-{time.time_ns()}"))
