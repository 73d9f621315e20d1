"""C{twistd relaytun-server}: options to a service."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService

from .. import startup
from ..config import load_server
from .service import Server


class Options(startup.Options):
    """The command line of C{twistd relaytun-server}."""

    program = "relaytun-server"
    synopsis = "[options]"
    longdesc = (
        "The public relaytun server: clients sign in on the control port and their bytes "
        "cross the relay port. Without a token it makes one at its first start; what a client "
        "needs is the invite, which is logged and kept in <state-dir>/invite."
    )
    optParameters = [
        ["config", "c", None, "INI file; an option given here wins over it"],
        ["control", None, None, "control port, or a Twisted endpoint description [9000]"],
        ["relay", None, None, "relay port, or a Twisted endpoint description [9001]"],
        ["host", None, None, "address to listen on [0.0.0.0]"],
        ["public-host", None, None, "what clients dial for the relay [as for the control port]"],
        ["state-dir", None, None, "where token, certificate and owners are kept"],
        ["token", None, None, "what clients have to show [a random one is made and kept]"],
    ]
    optFlags = [["open", None, "let in whoever comes, without a token"]]


def makeService(options: Options, reactor: Any = None) -> IService:
    """
    @param reactor: the global one by default.
    @raise SystemExit: with a line on stderr for each mistake of the user's.
    """
    if reactor is None:
        from twisted.internet import reactor
    startup.use_monotonic_time(reactor)
    hangup = startup.Hangup(reactor)
    with startup.exit_on_user_error(options.program):
        config = load_server(options["config"], options.given())
        log = startup.daemon_log(options, reactor, config.log_format)
        server = Server(reactor, config, startup.again(load_server, options), log.use_format)
        hangup.act = server.reloader.hangup
        return startup.Daemon(options.program, server, reactor, server.drain, log)
