"""Many streams on one link, and a slow one beside a fast one."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable

from .links import MIB, Tunnel
from .processes import PATIENCE, ProcessTestCase, dialled
from .services import ask_source, take

STREAMS = 2000
#: Bytes by which a process may be larger when all of them are gone.
LEFT = 24 * MIB
#: Seconds.
ALL_OF_THEM = 4 * PATIENCE


class ManyStreams(ProcessTestCase):
    def test_at_once(self) -> None:
        """
        2,000 streams at once over one link, across a kill, each get back what they sent; sockets
        and memory return to where they were, and nothing waits to be closed.
        """
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit[0] < 3 * STREAMS:  # Both ends of all of them, here.
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(3 * STREAMS, limit[1]), limit[1]))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        _, service = self.start_service("echo")
        tunnel = Tunnel(port=service)
        self.addCleanup(tunnel.kept.close)
        clients = {"provider": tunnel.provider, "visitor": tunnel.visitor}
        asyncio.run(held(tunnel.port, STREAMS // 4, lambda: None))
        level = tunnel.settled_level(**clients)
        memory = {name: client.memory() for name, client in clients.items()}
        counted: list[int] = []

        def meanwhile() -> None:
            counted.append(tunnel.streams("visitor"))
            tunnel.restart_server()

        asyncio.run(held(tunnel.port, STREAMS, meanwhile))
        self.assertEqual(counted, [STREAMS])
        tunnel.assert_back_at(level, **clients)
        for name, client in clients.items():
            self.assertEqual(client.close_waits(), 0)
            self.assertLess(client.memory() - memory[name], LEFT, name)
            self.assertNotIn("Traceback", client.output)


async def held(port: int, count: int, meanwhile: Callable[[], None]) -> None:
    """C{count} streams that are all open while C{meanwhile} happens, and echo before and after."""
    gate = asyncio.Semaphore(200)

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"first")
            assert await reader.readexactly(5) == b"first"
        return reader, writer

    streams = await asyncio.wait_for(asyncio.gather(*(opened() for _ in range(count))), ALL_OF_THEM)
    await asyncio.to_thread(meanwhile)

    async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"second")
        writer.write_eof()
        assert await reader.read(-1) == b"second"
        writer.close()

    await asyncio.wait_for(asyncio.gather(*(ended(*stream) for stream in streams)), ALL_OF_THEM)


class SlowReader(ProcessTestCase):
    #: How many times as long the fast transfer may take.
    MOST = 1.5
    FAST = 96 * MIB
    SLOW = 64 * MIB
    #: Bytes by which a process may grow: two windows, and what an allocator keeps.
    GROWTH = 24 * MIB

    def test_beside_a_fast_one(self) -> None:
        """A stream that nobody reads keeps two windows at most, and slows no other on its link."""
        _, service = self.start_service("source")
        tunnel = Tunnel(port=service)
        self.addCleanup(tunnel.kept.close)
        self.transfer(tunnel.port)
        before = {name: daemon.memory() for name, daemon in tunnel.daemons.items()}
        alone, beside = [], []
        for _ in range(3):
            alone.append(self.transfer(tunnel.port))
            with dialled(tunnel.port) as slow:
                ask_source(slow, self.SLOW)
                take(slow, 1024)
                beside.append(self.transfer(tunnel.port))
                take(slow, 1024)
        for name, daemon in tunnel.daemons.items():
            self.assertLess(daemon.memory() - before[name], self.GROWTH, name)
        self.assertLess(min(beside) / min(alone), self.MOST, f"alone {alone}, beside {beside}")

    def transfer(self, port: int) -> float:
        """The seconds that a reader in a hurry needs."""
        with dialled(port) as connection:
            begin = time.perf_counter()
            ask_source(connection, self.FAST)
            self.assertEqual(take(connection, self.FAST), self.FAST)
            return time.perf_counter() - begin
