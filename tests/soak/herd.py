"""
Ten thousand clients in one process: just enough of a client to sign in and to come back.

C{python -m tests.soak.herd PORT TOKEN COUNT} prints C{all up SECONDS} each time when all of them
are registered, with the seconds since the first of them began to try.  They back off as relaytun's
own client does: anything from nothing to C{min(30, 2^failures)} seconds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import struct
import sys
import time

LONGEST_WAIT = 30.0
LOGIN_TIMEOUT = 15.0


class Herd:
    """All of them."""

    def __init__(self, port: int, token: str, count: int) -> None:
        self._port = port
        self._token = token
        self._count = count
        self._up = 0
        self._began = time.monotonic()

    async def run(self) -> None:
        """Have them sign in, and come back for ever."""
        await asyncio.gather(*(self._live(number) for number in range(self._count)))

    async def _live(self, number: int) -> None:
        failures = 0
        while True:
            await asyncio.sleep(random.random() * min(LONGEST_WAIT, 2.0**failures))
            try:
                reader, writer = await asyncio.wait_for(self._login(number), LOGIN_TIMEOUT)
            except (OSError, EOFError, asyncio.TimeoutError):
                failures += 1
                continue
            failures = 0
            self._up += 1
            if self._up == self._count:
                print(f"all up {time.monotonic() - self._began:.1f}", flush=True)
            try:
                while await reader.read(4096):
                    pass
            except OSError:
                pass
            writer.close()
            if self._up == self._count:
                self._began = time.monotonic()
                print("all down", flush=True)
            self._up -= 1

    async def _login(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # Each twenty clients have an address of their own, as behind twenty routers.
        group = number // 20
        address = f"127.1.{group // 250}.{group % 250 + 1}"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(address, 0)
        )
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(
                f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                f"Authorization: Bearer {self._token}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise OSError("no upgrade")
            payload = {"clientId": f"herd-{number}", "services": []}
            writer.write(frame(json.dumps({"type": "register", "payload": payload}).encode()))
            while True:
                answer = await message(reader)
                if answer.get("type") == "register_response":
                    break
            if not answer["payload"]["success"]:
                raise OSError("refused")
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer


def frame(data: bytes) -> bytes:
    """A masked text frame, shorter than 64 KiB."""
    length = (
        bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    )
    mask = os.urandom(4)
    return b"\x81" + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


async def message(reader: asyncio.StreamReader) -> dict:  # type: ignore[type-arg]
    """The next text message; other frames are passed over."""
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", await reader.readexactly(2))[0]
        data = await reader.readexactly(size)
        if first == 0x81:
            answer: dict = json.loads(data)  # type: ignore[type-arg]
            return answer


if __name__ == "__main__":
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(Herd(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])).run())
