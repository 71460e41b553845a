"""The models that a server has loaded, by name, each once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from quarry.models.blend import read_blend
from quarry.models.caches.score_cache import ScoreCache
from quarry.models.caches.state_cache import StateCache
from quarry.models.calibration import read_calibration
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.pool import ModelPool
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.runner import Device, Precision
from quarry.models.served_encoder import ServedEncoder
from quarry.models.served_reranker import ServedReranker
from quarry.models.sources.resolve import resolve_model

LOADING_THREADS = 2
"""Models that are loaded, and exported where that is needed, at the same time; others wait."""
WARM_UP = [("what is warm", "word " * length) for length in (1, 16, 64)]
"""Scored before a model serves: the first runs of a session are slow, and a broken model shows here."""
Loaded = TypeVar("Loaded")


class Versions(Protocol):
    """The folders of registered models; calls block."""

    def locate_folder(self, name: str) -> Path | None:
        """Locates a version's folder; None for a name that is no version's.

        Raises:
            ModelNotFoundError: there is no such version.
            FailedPreconditionError: it is retired.
        """
        ...

    def check(self, name: str) -> None:
        """Raises ModelDamagedError unless the version's files are what they were when it was registered."""
        ...

    def list_kept(self) -> Collection[str]:
        """Lists re-rankers that stay loaded: those that serve, and those that served before them."""
        ...


class NoVersions:
    """The versions of a program without a registry: names are hub ids, folders and packages."""

    def locate_folder(self, name: str) -> Path | None:
        return None

    def check(self, name: str) -> None:
        pass

    def list_kept(self) -> Collection[str]:
        return ()


class _Once(Generic[Loaded]):
    """Loads each name once, however many ask for it at the same time."""

    def __init__(self, load: Callable[[str, Path | None], Loaded], threads: Executor) -> None:
        self._load, self._threads = load, threads
        self._locks: dict[tuple[str, Path | None], asyncio.Lock] = {}
        self.loaded: dict[tuple[str, Path | None], Loaded] = {}

    async def get(self, name: str, folder: Path | None) -> Loaded:
        key = name, folder
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self.loaded:
                loop = asyncio.get_running_loop()
                self.loaded[key] = await loop.run_in_executor(self._threads, self._load, name, folder)
            return self.loaded[key]


class ServedModels:
    """Loads encoders and cross-encoders on first use; ended by ``close``.

    A name such as ``faq@3`` is a registered version: its files are checked against their hashes before it is
    loaded. Encoders stay; re-rankers that are neither used nor kept are unloaded when there are too many.

    Attributes:
        scores: that re-rankers gave, each kept under its own model.
        states: of passages, which split re-rankers share that have the same lower layers; closed with this.
    """

    def __init__(
        self,
        data: Path,
        device: Device,
        versions: Versions | None = None,
        score_cache_bytes: int = 0,
        states: StateCache | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self._data, self._device, self._precision = data, device, precision
        self.states = StateCache(0) if states is None else states
        self.scores = ScoreCache(score_cache_bytes)
        self._versions: Versions = versions or NoVersions()
        # Of their own: a model that takes long to load keeps no thread from searches.
        self._loading = ThreadPoolExecutor(LOADING_THREADS, thread_name_prefix="model-loading")
        self._encoders = _Once(self._load_encoder, self._loading)
        self.rerankers: ModelPool[ServedReranker] = ModelPool(
            self._load_reranker, ServedReranker.close, self._versions.list_kept, threads=self._loading
        )

    async def load_encoder(self, name: str) -> ServedEncoder:
        """Raises ModelError, or as ``Versions``."""
        return await self._encoders.get(name, await asyncio.to_thread(self._versions.locate_folder, name))

    @contextlib.asynccontextmanager
    async def use_reranker(self, name: str) -> AsyncIterator[ServedReranker]:
        """Yields the re-ranker, loaded and warm, and keeps it so meanwhile. Raises ModelError, or as
        ``Versions``."""
        folder = await asyncio.to_thread(self._versions.locate_folder, name)
        known = self.rerankers.peek(name)
        if known is not None and known.folder != folder:  # of a collection of the same name that is gone
            self.rerankers.forget(name)
        new = known is None
        async with self.rerankers.hold(name) as loaded:
            if new:
                await self.trim()
            yield loaded

    async def trim(self) -> None:
        """Unloads re-rankers that are neither used nor kept, if there are too many."""
        await self.rerankers.trim()

    def forget(self, name: str) -> None:
        """Unloads a re-ranker when its last user leaves."""
        self.rerankers.forget(name)

    def forget_under(self, folder: Path) -> None:
        """Unloads the versions whose files lie somewhere in ``folder``."""
        for name in self.rerankers.names:
            model = self.rerankers.peek(name)
            if model is not None and model.folder is not None and folder in model.folder.parents:
                self.rerankers.forget(name)

    def keep_reranker(self, name: str) -> AbstractContextManager[None]:
        """Keeps a re-ranker loaded meanwhile, if it is."""
        return self.rerankers.hold_loaded(name)

    def get_scorer(self, name: str) -> ServedReranker:
        """Returns a re-ranker that is loaded already. Raises ModelError for another."""
        return self.rerankers.get(name)

    async def close(self) -> None:
        for served in self._encoders.loaded.values():
            await asyncio.to_thread(served.batcher.close)
        await self.rerankers.close()
        self._loading.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.states.close)

    def _load_encoder(self, name: str, folder: Path | None) -> ServedEncoder:
        self._versions.check(name)
        return ServedEncoder(load_encoder(name, self._data, self._device, folder))

    def _load_reranker(self, name: str) -> ServedReranker:
        folder = self._versions.locate_folder(name)
        self._versions.check(name)
        model = load_cross_encoder(name, self._data, self._device, folder, self.states, self._precision)
        model.score(WARM_UP)
        path = folder or resolve_model(name, self._data).path
        return ServedReranker(model, read_blend(path), folder, self.scores, read_calibration(path))


def try_model(
    folder: Path, kind: ModelKind, data: Path, device: Device, precision: Precision = "fp32"
) -> None:
    """Loads the model in ``folder``, exporting it beside that, and runs it. Raises ModelError."""
    if kind is ModelKind.ENCODER:
        load_encoder(folder.name, data, device, folder).encode([passage for _, passage in WARM_UP])
    else:
        read_blend(folder)
        read_calibration(folder)
        load_cross_encoder(folder.name, data, device, folder, precision=precision).score(WARM_UP)
