"""The third phase: listens, answers, and begins what goes on in the background."""

import contextlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quarry.collections.erasing import Eraser, ErasurePolicy
from quarry.collections.state_fill import StateFill
from quarry.config import Settings
from quarry.ending import Ending
from quarry.storage.housekeeping import Housekeeping
from quarry_server.caller_log import CallerLog
from quarry_server.startup.listening import TransportParts, listen, listen_for_jobs
from quarry_server.startup.opening import LookAtStop, Parts
from quarry_server.startup.services import SERVICES, Services, build_services
from quarry_server.training.loop import LoopSchedule
from quarry_server.training.loop_runs import LoopRuns
from quarry_server.transport.connections import choose_connection_limits, make_grpc_options
from quarry_server.transport.drain import DrainPolicy, RunningCalls, drain
from quarry_server.transport.interceptors import TypedErrors
from quarry_server.transport.reflection import add_reflection


class Server:
    """A server that is listening. Made by ``serve_parts``.

    Attributes:
        address: ``host:port``, with the port that was really taken.
    """

    def __init__(
        self,
        grpc_server: grpc.aio.Server,
        health_servicer: health.aio.HealthServicer,
        calls: RunningCalls,
        transport: TransportParts,
        address: str,
    ):
        self._grpc, self._health, self._calls, self.address = grpc_server, health_servicer, calls, address
        self._transport = transport  # gRPC asks its certificates at each handshake, and keeps no reference

    async def drain(self, policy: DrainPolicy) -> None:
        """Stops it, as ``quarry_server.transport.drain.drain`` does."""
        await drain(self._grpc, self._health, ["", *SERVICES], self._calls, policy)


async def serve_parts(
    parts: Parts, transport: TransportParts, ending: Ending, look_at_stop: LookAtStop
) -> Server:
    """Answers calls over ``parts`` from now on; the caller drains the server before ``ending`` closes them.

    The port is bound when little is left to do, because whoever connects from then on waits for an answer.

    Raises:
        UnavailableError: the port is taken, or a socket cannot be made.
        FailedPreconditionError: somebody listens on the socket, or it is another file.
    """
    settings, calls = parts.settings, RunningCalls()
    limits = choose_connection_limits(settings.connections)
    grpc_server = grpc.aio.server(
        interceptors=[calls, TypedErrors(), CallerLog()], options=make_grpc_options(limits)
    )
    health_servicer = health.aio.HealthServicer()
    try:
        address = await listen(grpc_server, settings, transport)
        services = await build_services(parts, listen_for_jobs(grpc_server, settings, ending), limits, ending)
        _register(grpc_server, services, health_servicer, settings)
        look_at_stop()
        await grpc_server.start()
        for service in ["", *SERVICES]:
            await health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
        _start_background(parts, services.loops, ending)
    except BaseException:
        await _give_back_port(grpc_server)
        raise
    return Server(grpc_server, health_servicer, calls, transport, address)


async def _give_back_port(server: grpc.aio.Server) -> None:
    """Stops listening. gRPC closes a port that is bound only for a server that has been started."""
    with contextlib.suppress(grpc.aio.UsageError):  # it has been started
        await server.start()
    await server.stop(None)


def _register(
    server: grpc.aio.Server,
    services: Services,
    healths: health.aio.HealthServicer,
    settings: Settings,
) -> None:
    for register in services.register:
        register(server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    if settings.reflection:
        add_reflection([*SERVICES, health.SERVICE_NAME], server)


def _start_background(parts: Parts, loops: LoopRuns, ending: Ending) -> None:
    """Starts what goes on beside the calls, until ``ending`` closes it."""
    housekeeping = Housekeeping(parts.folder.keep_house)
    ending.push("housekeeping", housekeeping.close)
    housekeeping.start()
    erasure = parts.settings.erasure
    eraser = Eraser(
        parts.open_collections,
        parts.models.of_collections.vector_cache,
        parts.models.served.states,
        parts.folder.empty_logs,
        ErasurePolicy(erasure.files_s, erasure.indexes_s),
    )
    ending.push("the erasing of what was deleted", eraser.close)
    eraser.start()
    schedule = LoopSchedule(parts.settings.loop, loops.list_collections, loops.read_turned_us, loops.turn)
    ending.push("the schedule of the loop", schedule.close)
    schedule.start()
    if parts.settings.models.state_store_bytes:
        fill = StateFill(parts.open_collections, parts.models.served)
        ending.push("the filling of passage states", fill.close)
        fill.start()
