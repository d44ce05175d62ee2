"""Serves one tenant in one event loop: its domain over TLS, its login pages and its control plane over plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from simulator import certificates, downloads
from simulator.actions_api import ActionsApi
from simulator.authentication import AuthenticationApi
from simulator.authorize import AuthorizePages
from simulator.clients_api import ClientsApi
from simulator.connections_api import ConnectionsApi
from simulator.control import Control
from simulator.event_streams_api import EventStreamsApi
from simulator.events_api import EventsApi
from simulator.jobs_api import JobsApi
from simulator.log_streams_api import LogStreamsApi
from simulator.logs_api import LogsApi
from simulator.management import ManagementApi
from simulator.tenant import Tenant
from simulator.users_api import UsersApi

Announce = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ports:
    """Where to listen on 127.0.0.1; 0 takes a free port."""

    domain: int = 0
    control: int = 0
    browser: int = 0


class AbortableProtocol(HttpToolsProtocol):
    """Hands the application a way to cut the connection without an answer, for faults."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope.setdefault("extensions", {})["simulator.transport"] = {"abort": self.transport.abort}


class _Server(uvicorn.Server):
    """Leaves signals to `serve`, which stops both servers together, and does not wait for idle connections."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                connection.transport.abort()  # a TLS goodbye would wait for the client's
        await super().shutdown(sockets)


def domain_app(tenant: Tenant) -> ASGIApp:
    """Put together what answers on the tenant's domain."""
    parts = (
        UsersApi(tenant),
        LogsApi(tenant),
        LogStreamsApi(tenant),
        ConnectionsApi(tenant),
        EventStreamsApi(tenant),
        EventsApi(tenant),
        JobsApi(tenant),
        ActionsApi(tenant),
        ClientsApi(tenant),
    )
    endpoints = [endpoint for part in parts for endpoint in part.endpoints()]
    management = Mount("/api/v2", ManagementApi(tenant, endpoints))
    return Starlette(routes=[management, *downloads.routes(tenant), *_login_routes(tenant, tenant.authority.issuer)])


def browser_app(tenant: Tenant, issuer: str) -> ASGIApp:
    """Put together what answers on the second domain, that of browsers: the same logins, another issuer."""
    return Starlette(routes=list(_login_routes(tenant, issuer)))


def _login_routes(tenant: Tenant, issuer: str) -> list[Route]:
    return [*AuthenticationApi(tenant, issuer).routes(), *AuthorizePages(tenant, issuer).routes()]


async def serve(
    tenant: Tenant,
    data: Path,
    ports: Ports,
    announce: Announce,
    *,
    log_level: str = "warning",
    exit_with_parent: bool = False,
) -> None:
    """Serve until SIGTERM, SIGINT or (`exit_with_parent`) the end of standard input. `announce` hears when it is ready."""
    ca_file, context = certificates.make(data)
    domain_socket, control_socket, browser_socket = (
        _listen(ports.domain),
        _listen(ports.control),
        _listen(ports.browser),
    )
    domain = f"127.0.0.1:{domain_socket.getsockname()[1]}"
    browser_issuer = f"http://127.0.0.1:{browser_socket.getsockname()[1]}/"
    tenant.authority.serve_at(domain)
    tenant.jobs.folder = data
    domain_server = _Server(_config(domain_app(tenant), log_level, context))
    control_server = _Server(_config(Control(tenant).app(), log_level, None))
    browser_server = _Server(_config(browser_app(tenant, browser_issuer), log_level, None))
    servers = (domain_server, control_server, browser_server)
    _stop_on_signals(servers, tenant.events.close, exit_with_parent=exit_with_parent)
    announce(  # the sockets listen already: who connects now waits until the servers accept
        {
            "domain": domain,
            "control_url": f"http://127.0.0.1:{control_socket.getsockname()[1]}",
            "browser_issuer": browser_issuer,
            "ca_file": str(ca_file),
            "client_id": tenant.default_client.client_id,
            "client_secret": tenant.default_client.client_secret,
            "tenant": tenant.name,
        }
    )
    await asyncio.gather(
        domain_server.serve(sockets=[domain_socket]),
        control_server.serve(sockets=[control_socket]),
        browser_server.serve(sockets=[browser_socket]),
    )
    await tenant.streams.close()
    await tenant.event_streams.close()
    await tenant.jobs.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    return listener


def _config(app: ASGIApp, log_level: str, context: ssl.SSLContext | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app, http=AbortableProtocol, ws="none", lifespan="off", log_level=log_level, access_log=False, server_header=False,
        timeout_graceful_shutdown=1, timeout_keep_alive=60,
    )  # fmt: skip
    config.load()
    config.ssl = context
    return config


def _stop_on_signals(servers: tuple[_Server, ...], end_streams: Callable[[], None], *, exit_with_parent: bool) -> None:
    def stop() -> None:
        end_streams()
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if exit_with_parent:
        _call_at_end_of_input(loop, stop)


def _call_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stop when the other end of standard input goes away; only a pipe or a socket tells that."""
    source = sys.stdin.fileno()
    mode = os.fstat(source).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def read() -> None:
        if not os.read(source, 4096):
            loop.remove_reader(source)
            stop()

    loop.add_reader(source, read)
