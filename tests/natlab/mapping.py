"""
A process that maps a port of the lab's router and says what comes of it; it ends with its stdin.

C{python -m tests.natlab.mapping PROTOCOL PORT [upnp]}
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO

from relaytun.nat.portmap import MappedPort, NoMapping, PortMapper

reactor: Any = _reactor


class _Stdin(Protocol):
    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.over.callback(None)


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


async def main(protocol: str, port: int, upnp: bool) -> None:
    stdin = _Stdin()
    StandardIO(stdin)
    began = reactor.seconds()
    if upnp:
        from relaytun.nat.upnp import Upnp

        mapper = PortMapper(reactor, upnp=Upnp(reactor))
    else:
        mapper = PortMapper(reactor)
    try:
        mapped: MappedPort = await mapper.map(protocol, port)
    except NoMapping as error:
        say(error=str(error), seconds=reactor.seconds() - began)
    else:
        say(
            place=mapped.place,
            by=mapped.by,
            lifetime=mapped.lifetime,
            private=mapped.private,
            seconds=reactor.seconds() - began,
        )
    await stdin.over
    await mapper.close()
    say(closed=True)


if __name__ == "__main__":
    running = Deferred.fromCoroutine(main(sys.argv[1], int(sys.argv[2]), "upnp" in sys.argv[3:]))
    running.addErrback(lambda failure: failure.printTraceback())
    running.addCallback(lambda _: reactor.stop())
    reactor.run()
