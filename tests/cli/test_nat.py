"""Tests of L{relaytun.cli.nat}."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from msgspec import UNSET
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.cli import nat as module
from relaytun.cli.nat import Finding, as_values, find_out, places_of, rows
from relaytun.config import ClientConfig, ServerAddress
from relaytun.errors import UserError
from relaytun.nat.classify import Nat, NatKind
from relaytun.server.reflector import Answering, Reflector
from relaytun.wire.messages import RegisterResponse, RelayAddress

HARD = Finding(
    udp=Nat(NatKind.HARD, ("198.51.100.2", 40000), step=1, sure=True),
    tcp=Nat(NatKind.EASY, ("198.51.100.2", 5000), keeps_port=True, sure=True),
    udp_local=("192.168.1.10", 5001),
    tcp_local=("192.168.1.10", 5000),
    rtt=0.0125,
    addresses=["192.168.1.10", "fd00::7"],
)
BLOCKED = Finding(
    udp=Nat(NatKind.BLOCKED),
    tcp=Nat(NatKind.BLOCKED),
    udp_local=("192.168.1.10", 5001),
    tcp_local=("192.168.1.10", 0),
    rtt=None,
    addresses=[],
)


class ShownTests(SynchronousTestCase):
    """What is printed."""

    def test_rows(self) -> None:
        """People read what the router does, and how each socket is seen."""
        (udp, udp_seen, tcp, tcp_seen, addresses, server) = rows(HARD)
        self.assertEqual(udp[0], "UDP")
        self.assertIn("a hard NAT", udp[1])
        self.assertEqual(udp_seen, ("", "seen as 198.51.100.2:40000, here 192.168.1.10:5001"))
        self.assertIn("an easy NAT", tcp[1])
        self.assertEqual(tcp_seen, ("", "seen as 198.51.100.2:5000, here 192.168.1.10:5000"))
        self.assertEqual(addresses, ("local addresses", "192.168.1.10, fd00::7"))
        self.assertEqual(server, ("server", "12.5 ms there and back"))

    def test_blocked_rows(self) -> None:
        """What is not known is not shown."""
        self.assertEqual(
            rows(BLOCKED),
            [
                ("UDP", "UDP is blocked: no answer comes back"),
                ("TCP", "TCP is blocked: no answer comes back"),
                ("local addresses", "none that others could reach"),
                ("server", "- there and back"),
            ],
        )

    def test_values(self) -> None:
        """Programs read the same."""
        values = json.loads(json.dumps(as_values(HARD)))
        self.assertEqual((values["kind"], values["udp"], values["step"]), ("hard", True, 1))
        self.assertEqual(values["external"], {"host": "198.51.100.2", "port": 40000})
        self.assertEqual(values["local"], {"host": "192.168.1.10", "port": 5001})
        self.assertEqual((values["sequential"], values["keepsPort"]), (True, False))
        self.assertEqual(
            values["pairs"],
            {"open": "direct", "easy": "predict", "hard": "relay", "blocked": "tcp"},
        )
        self.assertEqual((values["tcp"]["kind"], values["tcp"]["keepsPort"]), ("easy", True))
        self.assertEqual((values["addresses"], values["rtt"]), (HARD.addresses, 0.0125))
        values = json.loads(json.dumps(as_values(BLOCKED)))
        self.assertEqual((values["udp"], values["external"], values["rtt"]), (False, None, None))


class PlacesTests(SynchronousTestCase):
    """Where the reflectors are."""

    def places(self, names: dict[str, list[Any]], *hosts: str) -> Deferred[Any]:
        async def addresses_of(reactor: Any, host: str) -> list[Any]:
            if host not in names:
                raise DNSLookupError("none")
            return names[host]

        self.patch(module, "addresses_of", addresses_of)
        reflectors = [RelayAddress(host=host, port=n) for n, host in enumerate(hosts, 1)]
        return Deferred.fromCoroutine(places_of(None, reflectors))  # type: ignore[arg-type]

    def test_one_family(self) -> None:
        """All are of one family, that of the first; what has none of it is left out."""
        names = {"a": [(2, "192.0.2.1"), (10, "::1")], "b": [(10, "::2")], "c": [(2, "192.0.2.3")]}
        found = self.places(names, "a", "b", "c")
        self.assertEqual(self.successResultOf(found), [("192.0.2.1", 1), ("192.0.2.3", 3)])
        self.assertEqual(
            self.successResultOf(self.places(names, "b", "a")), [("::2", 1), ("::1", 2)]
        )

    def test_no_host(self) -> None:
        """A name that is none is an error of one line."""
        failure = self.failureResultOf(self.places({}, "a\x1b"), UserError)
        self.assertEqual(str(failure.value), "there is no host a\\x1b, of the server")


class FindOutTests(TestCase):
    """Against a reflector on this machine."""

    timeout = 20

    def reflectors(self, count: int = 2) -> list[Reflector]:
        started = []
        for _ in range(count):
            service = Reflector(reactor, Answering(reactor), "127.0.0.1", 0, None)  # type: ignore[arg-type]
            service.privilegedStartService()
            self.addCleanup(lambda service=service: maybeDeferred(service.stopService))
            started.append(service)
        return started

    async def test_open(self) -> None:
        """Over loopback there is no NAT, and both protocols say so."""
        places = [("127.0.0.1", each.number) for each in self.reflectors()]
        found = await find_out(reactor, places)  # type: ignore[arg-type]
        for nat, local in ((found.udp, found.udp_local), (found.tcp, found.tcp_local)):
            self.assertEqual(nat, Nat(NatKind.OPEN, local, keeps_port=True, sure=True))
        self.assertIsNotNone(found.rtt)

    def online(self, response: RegisterResponse) -> None:
        """Have the client signed in with this answer."""
        control = type("Control", (), {"response": response})()
        connection = type("Connection", (), {"control": control})()

        @contextlib.asynccontextmanager
        async def online(*args: Any) -> AsyncIterator[Any]:
            yield connection

        self.patch(module, "online", online)

    async def test_signed_in(self) -> None:
        """The server tells where to ask."""
        (service,) = self.reflectors(1)
        told = RelayAddress(host="127.0.0.1", port=service.number, protocol="udp")
        self.online(RegisterResponse(success=True, reflectors=(told,)))
        found = await module._find_out(reactor, config())  # type: ignore[arg-type]
        self.assertEqual((found.udp.kind, found.udp.sure), (NatKind.OPEN, False))

    async def test_no_reflectors(self) -> None:
        """A server without a reflector is an error that says why."""
        for reflectors in (UNSET, ()):
            self.online(RegisterResponse(success=True, reflectors=reflectors))
            with self.assertRaises(UserError) as raised:
                await module._find_out(reactor, config())  # type: ignore[arg-type]
            self.assertIn("reflector_port is empty", str(raised.exception))


def config() -> ClientConfig:
    return ClientConfig(servers=(ServerAddress(host="a", port=1),), state_dir=Path("/"))
