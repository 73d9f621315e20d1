"""Many streams at once through one local port."""

from __future__ import annotations

import asyncio
import hashlib

from .processes import PATIENCE, ProcessTestCase

STREAMS = 200
SIZE = 64 * 1024


async def converse(port: int, number: int) -> bool:
    """One stream that sends bytes of its own; returns whether exactly those came back."""
    sent = hashlib.shake_128(str(number).encode()).digest(SIZE)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        writer.write_eof()
        return await reader.read(-1) == sent
    finally:
        writer.close()
        await writer.wait_closed()


async def at_once(port: int, count: int) -> list[bool]:
    """C{count} of them side by side."""
    conversations = (converse(port, number) for number in range(count))
    return await asyncio.wait_for(asyncio.gather(*conversations), PATIENCE)


class ManyStreams(ProcessTestCase):
    def test_each_gets_its_own_bytes(self) -> None:
        """200 streams at once each get back what they sent, and leave nothing behind."""
        _, service = self.start_service("echo")
        daemons = {"server": self.start_server(), "provider": self.start_provider(service)}
        daemons["visitor"], port = self.start_visitor()
        # The first round brings the provider's spare legs to their number under load.
        for _ in range(2):
            self.assertEqual(asyncio.run(at_once(port, STREAMS)), [True] * STREAMS)
        level = self.settled_level(**daemons)
        self.assertEqual(asyncio.run(at_once(port, STREAMS)), [True] * STREAMS)
        self.assert_back_at(level, **daemons)
        for name in daemons:
            self.assertEqual(level[name]["closeWaits"], 0)
            if name != "server":  # It counts channels: the link keeps its own.
                self.assertEqual(level[name]["streams"], 0)

    def test_spare_legs_from_the_start(self) -> None:
        """The legs that a provider dials as it accepts are taken, though they come first."""
        _, service = self.start_service("echo")
        server, provider = self.start_server(), self.start_provider(service)
        visitor, port = self.start_visitor()
        self.assertEqual(asyncio.run(at_once(port, 1)), [True])
        self.settled_level(server=server, provider=provider, visitor=visitor)
        self.assertNotIn("a spare leg is lost", provider.output)
