"""The subject "portforward": Twisted's own TCP proxy, as its documentation would have you run it.

Usage: ``portforward.py LISTEN_PORT TARGET_PORT``.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.protocols.portforward import ProxyFactory

if __name__ == "__main__":
    listen_port, target_port = map(int, sys.argv[1:])
    factory: Any = ProxyFactory("127.0.0.1", target_port)
    reactor.listenTCP(listen_port, factory, backlog=4096, interface="127.0.0.1")
    reactor.run()
