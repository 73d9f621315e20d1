"""
A public port whose provider is cut off from the server again and again.

C{python cuts.py HOST PORT...} forwards these ports of HOST to those of 127.0.0.1; to kill it is to
cut what goes that way.  That part imports nothing of relaytun.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

if __name__ != "__main__":
    from relaytun.config import format_invite, parse_invite

    from .links import QUICK, Service, Stream
    from .processes import PATIENCE, Process
    from .public import ALLOWED
    from .shared import Keeper

    #: Where the provider believes the server to be.
    ELSEWHERE = "127.0.0.2"

    class PublicTunnel(Keeper):
        """
        A server, a provider with a public port, and what the latter's connections go through.

        @ivar server, provider: the daemons.
        @ivar port: the public one.
        """

        def __init__(self) -> None:
            super().__init__()
            self._service = Service()
            self.kept.callback(self._service.close)
            self.server = self.start_server(config=f"[public]\nallow_ports = {ALLOWED}")
            listening = self.status("server")["listening"]
            self._ports = [str(listening[name]["port"]) for name in ("control", "relay")]
            self._between = self._join()
            self.provider = self.start_client(
                "provider",
                "[service:it]\nprotocol = tcp\nlocal_host = 127.0.0.1\nremote_port = 0\n"
                f"local_port = {self._service.port}\n",
                QUICK,
            )
            self.port = int(self.provider.wait_for(r"is public: tcp://[\d.]+:(\d+)")[1])

        def config(self, client_id: str, sections: str, client: str = "") -> Path:
            """The provider's, with another server address than the invite's."""
            address = parse_invite(self.invite)
            fields = {name: getattr(address, name) for name in address.__struct_fields__}
            invite = format_invite(type(address)(**{**fields, "host": ELSEWHERE}))
            (self.folder / "elsewhere").write_text(invite)
            path = super().config(client_id, sections, client)
            path.write_text(path.read_text().replace("/server/invite", "/elsewhere"))
            return path

        def cut(self) -> None:
            """Break all of the provider's connections; at once it can make new ones."""
            self._between.kill()
            self._between.close()
            self._between = self._join()

        @contextlib.contextmanager
        def stream(self, patience: float = PATIENCE) -> Iterator[Stream]:
            """One through the public port; its ends wait C{patience} seconds for bytes."""
            near = socket.create_connection(("127.0.0.1", self.port), patience)
            with near, self._service.accept() as far:
                far.settimeout(patience)
                yield Stream(near, far)

        def _join(self) -> Process:
            process = self.start("between", sys.executable, __file__, ELSEWHERE, *self._ports)
            process.wait_for("forwarding")
            return process


def _pump(source: socket.socket, sink: socket.socket) -> None:
    room = memoryview(bytearray(256 * 1024))
    with contextlib.suppress(OSError):
        while size := source.recv_into(room):
            sink.sendall(room[:size])
        sink.shutdown(socket.SHUT_WR)


def _forward(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    while True:
        near, _ = listening.accept()
        with contextlib.suppress(OSError):
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


if __name__ == "__main__":
    threads = [
        threading.Thread(target=_forward, args=(socket.create_server((sys.argv[1], int(port))),))
        for port in sys.argv[2:]
    ]
    for thread in threads:
        thread.start()
    print("forwarding", flush=True)
