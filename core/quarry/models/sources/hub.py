"""Fetches models from the Hugging Face hub, if the operator allows it."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from quarry.errors import DiskFullError, ModelError, UnavailableError
from quarry.jobs.process import run_process
from quarry.models.sources.resolve import FETCHED, find_installed, is_hub_id, locate_fetched_folder
from quarry.storage.disk import is_disk_full

Find = Callable[[str, Path], Path | None]
"""Finds a model by name on this machine, given the server's data folder."""
_UNFINISHED = ".fetch-"
_HOME = ".home"
MAX_FETCHES = 2
"""So many models are fetched at the same time."""


@dataclass(frozen=True, slots=True)
class HubPolicy:
    """The rules by which the hub is asked.

    Attributes:
        allowed: False keeps the server from ever asking it.
        timeout_s: that fetching one model may take in all.
        at_once: models that are fetched at the same time.
    """

    allowed: bool = False
    timeout_s: float = 300.0
    at_once: int = MAX_FETCHES


class HubBusyError(UnavailableError):
    """The server is fetching as many models as it may already."""

    reason = "HUB_BUSY"


class HubUnavailableError(UnavailableError):
    """The hub cannot be reached, or does not answer in time."""

    reason = "HUB_UNAVAILABLE"


class Hub:
    """Fetches models into a server's data folder. Lives on one event loop; ended by ``close``.

    Each fetch is a process of its own: it can be ended at its time limit whatever the network does, and it
    takes no thread from searches. Those who ask for one model share its fetch.
    """

    def __init__(self, data: Path, policy: HubPolicy) -> None:
        self._data, self._policy = data, policy
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def fetch_missing(self, name: str, find: Find = find_installed) -> None:
        """Fetches the model ``name`` if it has a hub's id, ``find`` does not find it, and the hub is allowed.

        A fetch goes on when its caller goes, so that a later call finds the model.

        Raises:
            HubUnavailableError: the hub cannot be reached, or takes too long.
            HubBusyError: too many models are being fetched.
            ModelError: the hub gives no such model.
            DiskFullError: it does not fit.
        """
        if not self._policy.allowed or not is_hub_id(name):
            return
        if await asyncio.to_thread(find, name, self._data) is not None:
            return
        if name not in self._fetching:
            self._begin(name)
        await asyncio.shield(self._fetching[name])

    def _begin(self, name: str) -> None:
        if len(self._fetching) >= self._policy.at_once:
            raise HubBusyError(
                f"{self._policy.at_once} models are being fetched from the hub already: try again later"
            )
        task = asyncio.create_task(self._fetch(name), name=f"fetch {name}")
        self._fetching[name] = task
        task.add_done_callback(lambda done: self._note_end(name, done))

    def _note_end(self, name: str, done: "asyncio.Task[None]") -> None:
        del self._fetching[name]
        if not done.cancelled():
            done.exception()  # maybe nobody waits for it any more

    async def _fetch(self, name: str) -> None:
        limit = self._policy.timeout_s
        try:
            async with self._make_folder() as folder:
                arguments = [name, str(folder), str(self._data / FETCHED / _HOME)]
                async with asyncio.timeout(limit):
                    await run_process("quarry.models.sources.fetching", arguments, _ignore_stage)
                await asyncio.to_thread(_keep, folder, locate_fetched_folder(self._data, name))
        except TimeoutError:
            problem = f"the Hugging Face hub did not give {name!r} within {limit:g} s"
            raise HubUnavailableError(problem, model=name) from None
        except UnavailableError as error:
            raise HubUnavailableError(str(error), model=name) from error
        except OSError as error:
            problem = f"{name!r} cannot be kept: {error.strerror}"
            raise DiskFullError(problem) if is_disk_full(error) else ModelError(problem) from error

    @contextlib.asynccontextmanager
    async def _make_folder(self) -> AsyncIterator[Path]:
        """Makes a folder for a fetch, removed after it unless it has been moved away."""
        parent = self._data / FETCHED

        def make() -> Path:
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=parent))

        folder = await asyncio.to_thread(make)
        try:
            yield folder
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def remove_unfinished(self) -> None:
        """Removes what fetches have left that were killed with their server. Called at the start; blocks."""
        for folder in (self._data / FETCHED).glob(f"{_UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        """Ends what is being fetched."""
        running = list(self._fetching.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _keep(folder: Path, target: Path) -> None:
    """Moves a fetched model to its place, whole, without the library's own notes."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    if target.exists():  # and is no model, or it would not have been fetched
        shutil.rmtree(target)
    folder.rename(target)


async def _ignore_stage(_stage: str, _progress: float) -> None:
    pass
