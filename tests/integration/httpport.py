"""
An HTTP port of its own process, without clients: C{python httpport.py SERVICE-PORT}.

There is a second one with TLS.  All host names lead to the service.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.logger import globalLogBeginner, textFileLogObserver

from relaytun.interfaces import IReactor
from relaytun.link.identity import Identity
from relaytun.plane.accept import prepare
from relaytun.plane.carriers import CarrierPool
from relaytun.plane.meter import Meter
from relaytun.plane.pair import End, pair
from relaytun.plane.splice import Splice
from relaytun.server.http.factory import HttpFactory
from relaytun.server.http.routes import Route, Routes, Unreachable
from relaytun.server.port import ListeningPort
from relaytun.tls import options_of_identity


def main(service: int) -> None:
    loop: IReactor = reactor  # type: ignore[assignment]
    pool = CarrierPool()

    def open_service(address: tuple[str, int]) -> End:
        try:
            connection = socket.create_connection(("127.0.0.1", service))
        except ConnectionRefusedError:
            raise Unreachable("The service is offline.") from None
        prepare(connection)
        ours, theirs = pair()
        Splice(loop, pool, theirs, connection, Meter(), lambda splice, mood: None)
        return ours

    def accepted(sock: socket.socket, address: Any) -> None:
        plain.serve(sock, address[:2])

    routes = Routes()
    routes.add(Route("*", open_service))
    plain = HttpFactory(loop, routes)
    port = ListeningPort(loop, "0", "127.0.0.1", accepted)
    port.privilegedStartService()
    print("http on", port.number, flush=True)
    options = options_of_identity(Identity.make("localhost"))
    secure = SSL4ServerEndpoint(loop, 0, options, interface="127.0.0.1")
    secure.listen(HttpFactory(loop, routes, secure=True)).addCallback(
        lambda port: print("https on", port.getHost().port, flush=True)
    )
    loop.run()


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    main(int(sys.argv[1]))
