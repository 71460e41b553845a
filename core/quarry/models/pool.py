"""Models that are loaded once, kept while somebody uses them, and unloaded when too many are idle."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from quarry.errors import ModelError

Loaded = TypeVar("Loaded")
MOST_IDLE = 2
"""Models that stay loaded although nobody uses them and nothing keeps them."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[Loaded]):
    """One model.

    Attributes:
        users: that hold it or wait for it to be loaded; ``uses`` counts all there ever were.
        forgotten: the last user unloads it.
    """

    loading: asyncio.Task[Loaded]
    users: int = 0
    uses: int = 0
    forgotten: bool = False

    def get_loaded(self) -> Loaded | None:
        done = self.loading.done() and not self.loading.cancelled() and self.loading.exception() is None
        return self.loading.result() if done else None


class ModelPool(Generic[Loaded]):
    """Models by name. Lives on one event loop; ended by ``close``.

    Args:
        load: raises ModelError or DataLossError. Blocks.
        unload: waits for what the model is doing. Blocks.
        kept: names that stay loaded whether they are used or not. Blocks.
        threads: that load; those of everybody if none are given.
    """

    def __init__(
        self,
        load: Callable[[str], Loaded],
        unload: Callable[[Loaded], None],
        kept: Callable[[], Collection[str]],
        most_idle: int = MOST_IDLE,
        threads: Executor | None = None,
    ) -> None:
        self._threads = threads
        self._load, self._unload, self._kept, self._most_idle = load, unload, kept, most_idle
        self._entries: dict[str, _Entry[Loaded]] = {}  # the one used last is last
        self._unloading: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Loaded]:
        """Yields the model, loaded if it was not, and keeps it loaded meanwhile. Raises as ``load``."""
        entry = self._entries.pop(name, None) or self._begin(name)
        self._entries[name] = entry
        with self._hold(entry):
            yield await asyncio.shield(entry.loading)  # whoever else waits for it goes on waiting

    @contextlib.contextmanager
    def hold_loaded(self, name: str) -> Iterator[None]:
        """Keeps a model loaded that is; does nothing for one that is not."""
        entry = self._entries.get(name)
        if entry is None:
            yield
            return
        self._entries[name] = self._entries.pop(name)
        with self._hold(entry):
            yield

    def get(self, name: str) -> Loaded:
        """Returns a model that is loaded already. Raises ModelError for another."""
        model = self.peek(name)
        if model is None:
            raise ModelError(f"the model {name} is not loaded", model=name)
        return model

    def peek(self, name: str) -> Loaded | None:
        return self._entries[name].get_loaded() if name in self._entries else None

    @property
    def names(self) -> list[str]:
        """The names of what is loaded or being loaded."""
        return list(self._entries)

    def forget(self, name: str) -> None:
        """Unloads the model when its last user leaves; whoever asks for the name loads it anew."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.forgotten = True
            self._unload_if_unused(entry)

    async def trim(self) -> None:
        """Unloads those that were not used for longest, until few enough are idle."""
        before = {entry: entry.uses for entry in self._entries.values()}
        kept = await asyncio.to_thread(self._kept)
        idle = [
            name
            for name, entry in self._entries.items()
            # One that was used meanwhile may have been given to a collection since what is kept was read.
            if not entry.users and before.get(entry) == entry.uses and name not in kept
        ]
        for name in idle[: max(0, len(idle) - self._most_idle)]:
            self.forget(name)
        await self._note_unload()

    async def close(self) -> None:
        for name in self.names:
            entry = self._entries.pop(name)
            await asyncio.wait([entry.loading])
            self._unload_later(entry)
        await self._note_unload()

    def _begin(self, name: str) -> _Entry[Loaded]:
        entry: _Entry[Loaded]

        async def load() -> Loaded:
            try:
                loop = asyncio.get_running_loop()
                model = await loop.run_in_executor(self._threads, self._load, name)
            except BaseException:
                if self._entries.get(name) is entry:  # so that the next one tries again
                    del self._entries[name]
                raise
            return model

        loading = asyncio.create_task(load(), name=f"load-{name}")
        loading.add_done_callback(_retrieve_failure)
        entry = _Entry(loading)
        return entry

    @contextlib.contextmanager
    def _hold(self, entry: _Entry[Loaded]) -> Iterator[None]:
        entry.users, entry.uses = entry.users + 1, entry.uses + 1
        try:
            yield
        finally:
            entry.users -= 1
            self._unload_if_unused(entry)

    def _unload_if_unused(self, entry: _Entry[Loaded]) -> None:
        if entry.forgotten and not entry.users:
            self._unload_later(entry)

    def _unload_later(self, entry: _Entry[Loaded]) -> None:
        async def unload() -> None:
            await asyncio.wait([entry.loading])
            model = entry.get_loaded()
            if model is not None:
                await asyncio.to_thread(self._unload, model)

        task = asyncio.create_task(unload())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _note_unload(self) -> None:
        await asyncio.gather(*self._unloading)


def _retrieve_failure(task: "asyncio.Task[Any]") -> None:
    """Retrieves a failure of which nobody hears, since all have gone: it is no mistake of the program."""
    if not task.cancelled():
        task.exception()
