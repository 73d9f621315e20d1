"""Pebble, an ACME server that is made for tests, and a DNS for it to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.names import dns, server

from ..server.https.issuer import Authority
from .processes import Process, free_port, program


class Everywhere:
    """A DNS in which each name is this machine; over TCP, which is how Pebble asks."""

    def query(self, query: dns.Query, timeout: Any = None) -> Deferred[Any]:
        """See L{twisted.internet.interfaces.IResolver}."""
        answers = []
        if query.type == dns.A:
            here = dns.Record_A("127.0.0.1", ttl=1)
            answers.append(dns.RRHeader(query.name.name, dns.A, ttl=1, payload=here))
        return succeed((answers, [], []))

    def listen(self) -> Any:
        """@return: its port."""
        factory = server.DNSServerFactory(clients=[self])
        factory.noisy = False
        return reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]


class Pebble:
    """
    @ivar ca: PEM of who vouches for its own web server.
    @ivar directory_url: for its clients.
    """

    def __init__(self, folder: Path, http_port: int, tls_port: int, dns_port: int) -> None:
        """
        @param http_port, tls_port: where it looks for proofs.
        """
        authority = Authority()
        self.ca = folder / "pebble-ca.pem"
        self.ca.write_bytes(authority.certificate)
        certificate, key = authority.issue("localhost")
        (folder / "pebble.pem").write_bytes(certificate)
        (folder / "pebble.key").write_bytes(key)
        port, self._management = free_port(), free_port()
        configuration = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(folder / "pebble.pem"),
            "privateKey": str(folder / "pebble.key"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "90 days", "validityPeriod": 7776000}},
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
        self.process = Process(
            "pebble",
            [
                program("pebble"),
                "-config",
                str(folder / "pebble.json"),
                "-dnsserver",
                f"127.0.0.1:{dns_port}",
            ],
            folder,
            PEBBLE_VA_NOSLEEP="1",
            PEBBLE_WFE_NONCEREJECT="0",
        )
        self.process.wait_for("ACME directory available")
        self.directory_url = f"https://localhost:{port}/dir"
        #: Where the root is that its certificates lead to.
        self.root_url = f"https://localhost:{self._management}/roots/0"
