"""C{twistd relaytun-client}: options to a service."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.service import IService

from .. import startup
from ..config import load_client
from .service import Client


class Options(startup.Options):
    """The command line of C{twistd relaytun-client}."""

    program = "relaytun-client"
    synopsis = "[options]"
    longdesc = (
        "A relaytun client: signs in at the server, offers the [service:...] sections of its "
        "configuration to others, and opens the local ports of its [connect:...] sections."
    )
    optParameters = [
        ["config", "c", None, "INI or JSON file; an option given here wins over it"],
        ["invite", None, None, "the server's invite, relaytun://TOKEN@HOST:PORT?fp=sha256:..."],
        ["client-id", None, None, "the name to register as"],
        ["state-dir", None, None, "where the identity is kept"],
    ]


def makeService(options: Options, reactor: Any = None) -> IService:
    """
    @param reactor: the global one by default.
    @raise SystemExit: with a line on stderr for each mistake of the user's.
    """
    if reactor is None:
        from twisted.internet import reactor

    def give_up(why: str) -> None:
        print(f"{options.program}: {why}", file=sys.__stderr__, flush=True)
        # twistd itself exits 0 whatever happened.
        reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        reactor.stop()

    startup.use_monotonic_time(reactor)
    hangup = startup.Hangup(reactor)
    with startup.exit_on_user_error(options.program):
        config = load_client(options["config"], options.given())
        log = startup.daemon_log(options, reactor, config.log_format)
        load = startup.again(load_client, options)
        client = Client(reactor, config, give_up, load, log.use_format)
        hangup.act = client.reloader.hangup
        return startup.Daemon(options.program, client, reactor, client.drain, log)
