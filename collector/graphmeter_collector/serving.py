"""A collector as a process: sockets, signals, both receivers begun and ended together. Returns when told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import uvicorn

from graphmeter_collector import garbage, logs
from graphmeter_collector.app import Collector, running
from graphmeter_collector.errors import StartupError
from graphmeter_collector.exposure import check_exposure, listen, refuse_itself, shown_host
from graphmeter_collector.keys import INGEST
from graphmeter_collector.lookout import EVERYWHERE, lookout
from graphmeter_collector.settings import Settings

if TYPE_CHECKING:
    import grpc

_log = structlog.stdlib.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Run a collector until SIGTERM or Ctrl-C; what was accepted by then is stored.

    Raises:
        StartupError, ConfigError: it cannot start.
    """
    logs.configure(settings.log_format, settings.log_level)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    began = time.monotonic()
    await check_exposure(settings)
    listener = listen(settings.host, settings.port)
    with listener:
        async with (
            running(settings) as collector,
            lookout(collector.health_routes(), settings.metrics_port) as metrics_port,
        ):
            garbage.settle()
            own_host, port = listener.getsockname()[:2]
            refuse_itself(collector.destinations, own_host, (port, settings.rpc_port()))
            rpc, rpc_port = await _start_rpc(collector)

            def say_ready() -> None:
                _log.info(
                    "ready",
                    url=f"http://{shown_host(settings.host)}:{port}",
                    grpc=f"{shown_host(settings.host)}:{rpc_port}" if rpc is not None else "off",
                    **({"metrics": f"http://{EVERYWHERE}:{metrics_port}/metrics"} if metrics_port else {}),
                    database=settings.shown_database(),
                    forward=[each.name for each in collector.destinations],
                    config=collector.config.hash,
                    keys="required" if collector.keyring.required else "not required",
                    seconds=round(time.monotonic() - began, 3),
                )

            server = _Server(
                uvicorn.Config(
                    collector.app,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    timeout_graceful_shutdown=max(round(settings.drain_timeout_s), 1),
                ),
                say_ready,
                rpc,
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, collector.reload)
            try:
                await server.serve(sockets=[listener])
            finally:
                if rpc is not None:
                    await rpc.stop(None)  # but for a failure it has ended with HTTP
        _log.info("stopped")


async def _start_rpc(collector: Collector) -> tuple[grpc.aio.Server | None, int]:
    """The OTLP/gRPC server and its port, if there is to be one.

    Raises:
        StartupError: its port is taken, and somebody has asked for that one.
    """
    settings, wanted = collector.settings, collector.settings.rpc_port()
    if wanted is None:
        return None, 0
    # Imported here: it takes a fifth of the time to get ready, and who sends HTTP only can do without.
    from graphmeter_collector.receive.rpc import make_server

    server = make_server(
        collector.pipeline.accept,
        lambda authorization: collector.keyring.admit(authorization, INGEST),
        collector.limits,
        collector.metrics,
        collector.passing,
        collector.room,
    )
    try:
        port = server.add_insecure_port(f"{shown_host(settings.host)}:{wanted}")
    except RuntimeError:
        port = 0
    if not port:
        sentence = f"cannot listen on {settings.host}:{wanted} for OTLP/gRPC: stop what listens there, choose another"
        if settings.grpc_port is not None:
            raise StartupError(f"{sentence} --grpc-port, or say --no-grpc")
        _log.warning("no_grpc", why=f"{sentence} with --grpc-port, or say --no-grpc")
        return None, 0
    await server.start()
    return server, port


class _Server(uvicorn.Server):
    """Says when it listens, and ends by returning.

    uvicorn's own handling raises the signal again when HTTP has ended, which would end us before the drain.
    """

    def __init__(
        self, config: uvicorn.Config, say_ready: Callable[[], None], rpc: grpc.aio.Server | None = None
    ) -> None:
        super().__init__(config)
        self._say_ready = say_ready
        self._rpc = rpc

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Not sooner: whoever waits for this line connects at once, or sends the first signal.
        self._say_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Both receivers at once: each may take as long as a stopping collector has, and no longer in all."""
        ends = [super().shutdown(sockets)]
        if self._rpc is not None:
            ends.append(self._rpc.stop(self.config.timeout_graceful_shutdown))
        await asyncio.gather(*ends)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                # A second signal while draining changes nothing: draining has its own limit of time.
                loop.add_signal_handler(number, lambda: None)
