"""Tests for datagrams over a visitor's and a provider's real links, where there is no UDP."""

from __future__ import annotations

import socket
from typing import Any

from relaytun.config import ConnectConfig, ServiceConfig
from relaytun.ends.legs import ClientSession
from relaytun.ends.udp_visitor import VisitorDatagrams
from relaytun.wire import messages

from .linksupport import PROVIDER, LinkTestCase
from .support import IDENTITY, until

CONNECT = ConnectConfig(
    name="it", target="provider", service="web", local_host="127.0.0.1", local_port=0
)


class UdpLinkTests(LinkTestCase):
    """
    @ivar service: a UDP socket, the service.
    """

    def setUp(self) -> None:
        super().setUp()
        self.service = self.udp()
        machinery = self.visitor.machinery
        self.datagrams = VisitorDatagrams(
            machinery.reactor, CONNECT, machinery.datagrams, self.visitor.want_link
        )
        self.datagrams.privilegedStartService()
        self.datagrams.startService()
        self.addCleanup(self.datagrams.stopService)

    @property
    def web(self) -> ServiceConfig:
        return ServiceConfig(
            id="web",
            protocol="udp",
            local_host="127.0.0.1",
            local_port=self.service.getsockname()[1],
            mode="link",
        )

    def session(self, fingerprint: str = IDENTITY.fingerprint, number: int = 1) -> ClientSession:
        session = super().session(fingerprint, number)
        session.protocol, session.datagram_session = "udp", 7
        return session

    async def grant(self, number: int = 1, **fields: Any) -> str:
        service = messages.Service(id="web", protocol="udp", local_port=53)
        return await super().grant(number, service=service, datagram_session=7, **fields)

    def udp(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.addCleanup(sock.close)
        return sock

    async def heard(self, sock: socket.socket) -> tuple[bytes, Any]:
        """The next datagram there, and from whom."""
        came: list[tuple[bytes, Any]] = []

        def look() -> bool:
            try:
                came.append(sock.recvfrom(65536))
            except BlockingIOError:
                return False
            return True

        await until(look)
        return came[0]

    async def assert_answered(self, program: socket.socket) -> None:
        """A datagram gets to the service, and its answer to the program."""
        program.sendto(b"question", ("127.0.0.1", self.datagrams.number))
        question, sender = await self.heard(self.service)
        self.assertEqual(question, b"question")
        self.service.sendto(b"answer", sender)
        self.assertEqual((await self.heard(program))[0], b"answer")

    async def test_before_the_channel(self) -> None:
        """The first datagrams wait not only for a session, but until the link has a channel."""
        program = self.udp()
        program.sendto(b"first", ("127.0.0.1", self.datagrams.number))
        self.visitor.serve_datagrams(self.datagrams)
        await self.grant()
        await until(lambda: self.visitor.link is not None)
        program.sendto(b"second", ("127.0.0.1", self.datagrams.number))
        await self.channel()
        self.assertEqual((await self.heard(self.service))[0], b"first")
        self.assertEqual((await self.heard(self.service))[0], b"second")
        await self.assert_answered(program)
        (known,) = self.links
        assert known.session is not None and self.visitor.link is not None
        for session in (known.session, self.visitor.link.session):
            report = session.report(None)
            self.assertEqual(report["streams"], 1)
            self.assertEqual(sorted((report["bytesIn"], report["bytesOut"])), [6, 19])
            self.assertEqual(report["datagrams"]["path"], "link")
        self.assertEqual(self.visitor.totals, (1, 19, 6))

    async def test_link_of_a_stream(self) -> None:
        """A link that a program's connection had made, before it was known to be udp, serves."""
        self.program()
        await self.grant()
        await self.channel()
        await until(lambda: self.visitor.link is not None and self.visitor.link.link.connected)
        self.visitor.serve_datagrams(self.datagrams)
        await self.assert_answered(self.udp())
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)

    async def test_provider_died(self) -> None:
        """When the provider's process has died, the next datagram has a new link made."""
        self.visitor.serve_datagrams(self.datagrams)
        await self.grant()
        leg = await self.channel()
        program = self.udp()
        await self.assert_answered(program)
        again = self.links_of(PROVIDER)
        leg.shutdown(socket.SHUT_RDWR)
        await self.channel(again)
        await until(lambda: self.visitor.link is None)
        program.sendto(b"later", ("127.0.0.1", self.datagrams.number))
        await until(lambda: self.visitor.link is not None)
        await self.channel(again)
        self.assertEqual((await self.heard(self.service))[0], b"later")
        await self.assert_answered(program)
