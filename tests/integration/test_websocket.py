"""A WebSocket conversation through the tunnel, between a client and a server of others."""

from __future__ import annotations

import random
import sys

from twisted.trial.unittest import SkipTest

from .processes import PATIENCE, ProcessTestCase

try:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect
except ImportError:
    connect = None  # type: ignore[assignment]

SIZE = 1024 * 1024
#: Sends back every message, and closes with the code 4321 when it is told to.
SERVER = """
from websockets.sync.server import serve

def talk(connection):
    for message in connection:
        if message == "close":
            connection.close(4321, "as you say")
            return
        connection.send(message)

with serve(talk, "127.0.0.1", 0, max_size=None) as server:
    print("listening on", server.socket.getsockname()[1], flush=True)
    server.serve_forever()
"""


class WebSocket(ProcessTestCase):
    def test_conversation(self) -> None:
        """Text and binary messages of 1 MB, a ping and a close code pass as they are."""
        if connect is None:
            raise SkipTest("not installed: websockets")
        service = self.start("websocket", sys.executable, "-c", SERVER)
        self.start_server()
        self.start_provider(int(service.wait_for(r"listening on (\d+)")[1]))
        _, port = self.start_visitor()
        binary = random.randbytes(SIZE)
        with connect(f"ws://127.0.0.1:{port}", max_size=None, open_timeout=PATIENCE) as connection:
            for message in ("\u00e9" * SIZE, binary, "", b"", "small"):
                connection.send(message)
                self.assertEqual(connection.recv(PATIENCE), message)
            self.assertTrue(connection.ping().wait(PATIENCE))
            connection.send("close")
            with self.assertRaises(ConnectionClosed) as closed:
                connection.recv(PATIENCE)
        received = closed.exception.rcvd
        self.assertIsNotNone(received)
        self.assertEqual((received.code, received.reason), (4321, "as you say"))
