"""Tests of who compresses a stream: a visitor that can, of a service that is to be."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec import UNSET

from relaytun.client import providerlink
from relaytun.client.making import check_compression
from relaytun.client.providerlink import Links
from relaytun.config import ServiceConfig
from relaytun.ends import visitorlink
from relaytun.errors import UserError
from relaytun.plane import zstd
from relaytun.wire import frames, messages

from .linksupport import LinkTestCase
from .support import until, warnings_to

MISSING = SimpleNamespace(AVAILABLE=False, INSTALL="install it")


class CompressionTests(LinkTestCase):
    """
    @ivar compression: what the service's section says.
    @ivar announced: what the server says of it.
    @ivar warnings: what the provider says.
    """

    compression: str | None = "zstd"
    announced: Any = "zstd"

    def setUp(self) -> None:
        super().setUp()
        self.warnings: list[Any] = []
        self.patch(Links, "_log", warnings_to(self.warnings))

    @property
    def web(self) -> ServiceConfig:
        return msgspec.structs.replace(super().web, compression=self.compression)

    async def grant(self, number: int = 1, **fields: Any) -> str:
        service = messages.Service(
            id="web", protocol="tcp", local_port=80, compression=self.announced
        )
        return await super().grant(number, service=service, **fields)

    async def carries(self) -> None:
        """A stream takes bytes both ways, and both ends."""
        program, served, _ = await self.running()
        await self.works(program, served)
        for one, other in ((program, served), (served, program)):
            one.shutdown(socket.SHUT_WR)
            self.assertEqual(await self.receive(other, 1), b"")
        await until(lambda: self.visitor.totals[0] == 0)

    async def running_again(self) -> None:
        """A second stream over the same link."""
        program = self.program()
        program.send(b"y")
        await self.served(b"y")

    def flags(self) -> list[int]:
        """Of the streams that run, at both sides."""
        assert self.visitor.link is not None
        (known,) = self.links
        ends = (self.visitor.link.link, known.link)
        return [stream.flags for link in ends for stream in link.streams.values()]

    async def test_both_can(self) -> None:
        """Streams of a compressed service are opened as such, and carry what they should."""
        await self.carries()
        await self.running_again()
        self.assertEqual(self.flags(), [frames.ZSTD] * 2)

    async def test_off(self) -> None:
        """Nothing is compressed unless it is asked for."""
        self.compression, self.announced = None, UNSET
        await self.carries()
        self.assertEqual(self.visitor.totals[1:], (6, 5))
        await self.running_again()
        self.assertEqual(self.flags(), [0, 0])

    async def test_visitor_cannot(self) -> None:
        """A visitor without the library gets the service all the same."""
        self.patch(visitorlink, "zstd", MISSING)
        await self.carries()
        self.assertEqual(self.visitor.totals[1:], (6, 5))

    async def refused(self) -> str:
        """Two streams are reset; @return: the only thing that the provider says."""
        program = self.program()
        program.send(b"x")
        await self.grant()
        await self.channel()
        await self.is_reset(program)
        await self.is_reset(self.program())
        self.assertRaises(BlockingIOError, self.service.accept)
        (warning,) = self.warnings
        return str(warning["text"])

    async def test_service_is_not_to_be(self) -> None:
        """A server that calls a service compressed cannot make it so."""
        self.compression = None
        self.assertIn("web", text := await self.refused())
        self.assertIn("does not say compression = zstd", text)

    async def test_provider_cannot(self) -> None:
        """A provider without the library refuses compressed streams, and says what to do."""
        self.patch(providerlink, "zstd", MISSING)
        self.assertIn("install it", await self.refused())

    def test_start(self) -> None:
        """A configuration that needs a library that is missing is an error at the start."""
        check_compression(self.web)
        self.patch(zstd, "AVAILABLE", False)
        error = self.assertRaises(UserError, check_compression, self.web)
        self.assertIn("[service:web]", str(error))
        self.assertIn("pip install relaytun[zstd]", str(error))
        self.compression = None
        check_compression(self.web)
