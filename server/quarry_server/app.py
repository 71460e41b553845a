"""Runs a server as a process: from its start, through signals, to its end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import uvloop
from sqlalchemy.exc import SQLAlchemyError

from quarry.config import Settings
from quarry.documents.writer import to_typed_error
from quarry.ending import Begins, Ending, LastResort, call_on_signals, end_now
from quarry.environment import keep_files_in
from quarry.log_lines import log_to_stderr
from quarry_server.startup.listening import check_transport
from quarry_server.startup.opening import open_parts
from quarry_server.startup.recovery import recover
from quarry_server.startup.serving import Server, serve_parts
from quarry_server.transport.connections import raise_descriptor_limit
from quarry_server.transport.drain import DrainPolicy

logger = logging.getLogger(__name__)

WORKER_THREADS = 32
SWITCH_INTERVAL_S = 0.001
"""How long a thread that indexes may keep the interpreter while the event loop wants it."""
CLOSING_S, MARGIN_S = 8.0, 2.0
"""Least time for ending the parts of a server, and what of that is kept for announcing and for the system."""


class StopAsked(BaseException):
    """The server was asked to stop before it served. That is no failure."""


@contextlib.asynccontextmanager
async def run_server(
    settings: Settings, ending: Ending | None = None, stop: asyncio.Event | None = None
) -> AsyncIterator[Server]:
    """Runs a server, ready: models loaded, stores open, health SERVING.

    A failure in any phase of the start closes what the phases before it have opened.

    Args:
        ending: ends its parts, from the last to the first; a new one if none is given.
        stop: is looked at between the steps of the start, which ends at the next one if it is set.

    Raises:
        StopAsked: ``stop`` was set before the server served.
        FailedPreconditionError: another server uses the data folder or the socket, or others would reach the
            port in plaintext.
        InvalidArgumentError: a file of TLS, or the path of the socket, cannot be used.
        DataLossError: the databases of the data folder do not know what it holds, or one is damaged.
        UnavailableError: the port is taken, or a socket cannot be made.
    """
    # Enough threads that no search waits for one behind indexing, which takes a few for seconds.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS, "work"))

    def look_at_stop() -> None:
        if stop is not None and stop.is_set():
            raise StopAsked

    async with ending or make_ending(settings) as closing:
        transport = await check_transport(settings)
        parts = await open_parts(settings, closing, look_at_stop)
        await recover(parts, look_at_stop)
        server = await serve_parts(parts, transport, closing, look_at_stop)
        try:
            yield server
        finally:
            await server.drain(DrainPolicy(settings.drain_notice_s, settings.drain_s))


def compute_exit_limit_s(settings: Settings) -> float:
    """Computes how long the server takes from the request to stop to its end, whatever hangs."""
    return max(settings.liveness.exit_s, _compute_drain_s(settings) + CLOSING_S) - MARGIN_S / 2


def make_ending(settings: Settings, begins: Begins | None = None) -> Ending:
    """Makes what ends a server's parts after its calls have ended; ``begins`` as ``Ending`` takes it."""
    return Ending(max(CLOSING_S, settings.liveness.exit_s - _compute_drain_s(settings)) - MARGIN_S, begins)


def _compute_drain_s(settings: Settings) -> float:
    """Computes how long calls may go on after the request to stop."""
    return settings.drain_notice_s + settings.drain_s


def serve(settings: Settings) -> None:
    """Runs a server until SIGTERM or SIGINT; prints one line when it is ready. Raises as ``run_server``."""
    os.umask(0o077)  # what a server and its jobs write is for its user alone
    log_to_stderr()
    raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_files_in(settings.data)
    try:
        uvloop.run(_serve(settings))
    except SQLAlchemyError as error:  # a database that turns out to be damaged while it is opened
        raise to_typed_error(error) from error


def spare_what_stays() -> None:
    """Leaves what the start has made out of garbage collections.

    A full collection looks at every object and lets no other thread run: 80 to 280 ms with the modules of a
    server, 20 ms without them.
    """
    gc.collect()
    gc.freeze()


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    last_resort = LastResort(compute_exit_limit_s(settings), lambda: ending.doing)
    ending = make_ending(settings, last_resort.start)

    def end() -> None:
        last_resort.start()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            loop.call_soon_threadsafe(stop.set)

    call_on_signals((signal.SIGTERM, signal.SIGINT), end)
    try:
        async with run_server(settings, ending, stop) as server:
            spare_what_stays()
            sys.stdout.write(f"quarry: listening on {server.address}\n")
            sys.stdout.flush()
            await stop.wait()
            logger.info("draining")
    except StopAsked:
        logger.info("stopped before the start was done")
    except BaseException as error:
        if ending.left:
            end_now("", error)
        raise
    if ending.left:  # a thread that hangs would be waited for
        end_now()
