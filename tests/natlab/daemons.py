"""
Server, provider and visitor in a lab: the daemons as they are, each in its own namespace.

The service and the visitor's programs are sockets of the test's own process, in these namespaces.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..integration.links import QUICK, Service, Stream, exchange, port_of
from ..integration.processes import PATIENCE, Process, eventually
from ..integration.shared import Keeper
from .lab import SERVER, Lab

#: Where each daemon is.
HOSTS = {"server": "s", "provider": "a", "visitor": "b"}


class LabService(Service):
    """A listening socket in a namespace, whose connections the test takes by itself."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._listening = lab.listen(host)
        self.port = int(self._listening.getsockname()[1])


class Daemons(Keeper):
    """
    A server, a provider at C{a} that offers C{it}, and a visitor at C{b}.

    @ivar server, provider, visitor: the processes.
    @ivar service: where the provider's streams come out.
    @ivar port: the visitor's, on 127.0.0.1 in namespace C{b}.
    """

    server: Process
    provider: Process
    visitor: Process

    def __init__(
        self,
        lab: Lab,
        *,
        client: str = "",
        server: str = "",
        service: str = "",
        visit: str = "",
        port: int | None = None,
    ) -> None:
        """
        Start them all; a stream may need a moment more (L{await_stream}).

        @param client: further lines for both [client] sections.
        @param server: further lines for the [server] section.
        @param service: further lines for the [service:it] section.
        @param visit: further lines for the [connect:it] section.
        @param port: of a service that is there already; otherwise it is in this process.
        """
        super().__init__()
        self.lab = lab
        self._client = f"{QUICK}\n{client}"
        self._visit = visit
        try:
            self.service = LabService(lab, HOSTS["provider"])
            self.kept.callback(self.service.close)
            self.server = self.start_server(config=server)
            self.provider = self.launch_client(
                "provider",
                "[service:it]\nprotocol = tcp\nlocal_host = 127.0.0.1\n"
                f"local_port = {port or self.service.port}\n{service}\n",
                self._client,
            )
            self.visitor = self._launch_visitor()
            self.port = port_of(self.visitor)
            for daemon in (self.provider, self.visitor):
                daemon.wait_for("signed in as")
        except BaseException:
            self.close()
            raise

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        """As users have it: direct paths are looked for."""
        if "direct =" not in client:
            client += "\ndirect = auto"
        return super().config(client_id, sections, client)

    def restart_visitor(self) -> None:
        """In order; the new one knows nothing of what the old one had found out."""
        self.visitor.close()
        self.visitor = self._launch_visitor()
        self.port = port_of(self.visitor)
        self.visitor.wait_for("signed in as")

    def _launch_visitor(self) -> Process:
        return self.launch_client(
            "visitor",
            "[connect:it]\ntarget = provider\nservice = it\nlocal_port = 0\n"
            f"mode = auto\n{self._visit}\n",
            self._client,
        )

    def close(self) -> None:
        """All of them end; the lab stays."""
        self.kept.close()

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """A process; the three daemons are where L{HOSTS} says."""
        if name == "server":
            arguments = (*arguments, f"--host={SERVER}")
        if name in HOSTS:
            arguments = tuple(self.lab.command(HOSTS[name], *arguments))
        return super().start(name, *arguments, **environment)

    def dial(self) -> socket.socket:
        """A program's connection to the visitor."""
        return self.lab.dial(HOSTS["visitor"], "127.0.0.1", self.port)

    @contextlib.contextmanager
    def stream(self, patience: float = PATIENCE) -> Iterator[Stream]:
        """A new one; its ends wait C{patience} seconds for each other's bytes."""
        with self.dial() as near, self.service.accept() as far:
            for end in (near, far):
                end.settimeout(patience)
            yield Stream(near, far)

    def await_stream(self) -> None:
        """A stream goes from end to end, and bytes go both ways."""
        with self.stream() as stream:
            exchange(*stream)

    def session(self, name: str = "visitor") -> dict[str, Any]:
        """The only session, as this client's C{status} shows it; empty if there is none yet."""
        sessions = self.status(name)["sessions"]
        return dict(sessions[0]) if sessions else {}

    def path(self, name: str = "visitor") -> str:
        """What that session's bytes take: C{relay}, C{lan}, C{tcp-direct} or C{quic}."""
        return str(self.session(name).get("path", ""))

    def await_path(
        self, is_right: Callable[[str], bool], patience: float = PATIENCE, name: str = "visitor"
    ) -> str:
        """Wait until the path is right; returns it."""
        eventually(
            lambda: is_right(self.path(name)),
            lambda: f"the path is {self.path(name)!r} after {patience} s",
            patience,
        )
        return self.path(name)

    def check_logs(self) -> None:
        """Nothing surprised anybody."""
        for daemon in (self.server, self.provider, self.visitor):
            for word in ("Traceback", "Unhandled"):
                if word in daemon.output:
                    raise AssertionError(f"{daemon.name}: {daemon.output}")
