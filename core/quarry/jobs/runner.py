"""Runs jobs that lie in folders: each in its turn, to be ended by whoever deletes what it is made from."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from quarry.errors import Cancelled, QuarryError
from quarry.jobs.process import OnProgress
from quarry.jobs.waited_for import EndOperation, read_operation
from quarry.waiting import end, finish_undisturbed, wait_until_ended

T = TypeVar("T")


class JobSpec(Protocol):
    """A request for a job; its name is unique."""

    @property
    def name(self) -> str: ...


S = TypeVar("S", bound=JobSpec)
S_contra = TypeVar("S_contra", bound=JobSpec, contravariant=True)

ReadDeleted = Callable[[], Awaitable[Collection[int]]]
"""Reads the keys of the collections that were deleted on purpose."""


class JobStore(Protocol[S_contra]):
    """A store of the jobs of one kind, and of what stays of them. Its methods block."""

    def create(self, spec: S_contra) -> Path:
        """Makes the job's folder, with what is asked of it."""
        ...

    def settle(self, spec: S_contra, error: QuarryError | None) -> None:
        """Removes what should not stay of a job that has ended; ``error`` says why it did not end well."""
        ...

    def list_job_keys(self, spec: S_contra) -> Collection[int]:
        """Returns the keys of the collections that the job reads."""
        ...

    def list_keys(self) -> set[int]:
        """Returns the keys of all collections that anything here is made from."""
        ...

    def remove_by_collection(self, keys: Collection[int]) -> object:
        """Removes all that is made from these collections."""
        ...


class _Job(Generic[S]):
    """A job that waits for its turn, or runs."""

    def __init__(self, spec: S) -> None:
        self.spec, self.has_begun = spec, False
        self.task: asyncio.Task[Any] | None = None


async def end_no_operation(_name: str) -> None:
    """Ends nothing: the ``end_operation`` of jobs that wait for no operation."""


class JobRunner(Generic[S]):
    """Runs, counts and ends the jobs of one store. Lives on one event loop.

    Args:
        end_operation: ends what a job was waiting for that has not ended well.
    """

    def __init__(self, store: JobStore[S], end_operation: EndOperation = end_no_operation) -> None:
        self._store, self._end_operation = store, end_operation
        self._jobs: dict[str, _Job[S]] = {}

    async def run(
        self,
        spec: S,
        turn: asyncio.Lock,
        on_progress: OnProgress,
        work: Callable[[Path], Coroutine[Any, Any, T]],
    ) -> T:
        """Does a job in a folder of its own, and returns what ``work`` gives.

        Cancelled, it cancels ``work`` and waits for its end. Unless the job ends well, the operation that it
        has noted is ended. Then the store settles what stays.

        Args:
            turn: jobs that share it go one after the other.
            work: gets the folder, with what is asked of the job.

        Raises:
            QuarryError: the folder cannot be made, or ``work`` has failed.
            Cancelled: ``end`` or ``remove_of_deleted`` has ended the job.
        """
        job = self._jobs[spec.name] = _Job(spec)
        job.task = task = asyncio.create_task(self._do(job, turn, on_progress, work))
        try:
            return await wait_until_ended(task)
        finally:
            del self._jobs[spec.name]

    async def end(self, concerns: Callable[[S], bool], *, waiting: bool = True) -> None:
        """Ends the jobs that something concerns, and waits until nothing of them runs.

        Args:
            waiting: those that still wait for their turn, too.
        """
        await end(
            job.task
            for job in self._jobs.values()
            if job.task is not None and (waiting or job.has_begun) and concerns(job.spec)
        )

    async def remove_of_deleted(self, read_deleted: ReadDeleted) -> None:
        """Ends the jobs on collections that were deleted, and removes what jobs made from them."""
        keys = await asyncio.to_thread(self._store.list_keys)
        for job in self._jobs.values():
            keys.update(self._store.list_job_keys(job.spec))
        if not keys:
            return
        gone = keys & set(await read_deleted())
        await self.end(lambda spec: not gone.isdisjoint(self._store.list_job_keys(spec)))
        await asyncio.to_thread(self._store.remove_by_collection, gone)

    async def _do(
        self,
        job: _Job[S],
        turn: asyncio.Lock,
        on_progress: OnProgress,
        work: Callable[[Path], Coroutine[Any, Any, T]],
    ) -> T:
        await on_progress("waiting", 0.0)
        async with turn:
            creating = asyncio.create_task(asyncio.to_thread(self._store.create, job.spec))
            error: QuarryError | None = None
            try:
                folder = await asyncio.shield(creating)
                job.has_begun = True
                return await work(folder)
            except BaseException as caught:
                error = _give_type(caught)
                raise
            finally:
                await finish_undisturbed(self._settle(job.spec, creating, error))

    async def _settle(self, spec: S, creating: "asyncio.Task[Path]", error: QuarryError | None) -> None:
        await asyncio.wait([creating])
        if creating.exception() is not None:
            return
        if error is not None and (noted := await asyncio.to_thread(read_operation, creating.result())):
            await self._end_operation(noted)
        await asyncio.to_thread(self._store.settle, spec, error)


def _give_type(error: BaseException) -> QuarryError:
    if isinstance(error, QuarryError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled("the job was cancelled")
    return QuarryError(f"internal error: {type(error).__name__}: {error}")
