"""
The local end of a [connect:...]: a TCP port whose connections are streams, or a UDP port.

Which of the two it is the service's protocol tells, which the server tells: until then, as in a
daemon that waits for its provider, it is a TCP port whose programs wait.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from ..config import ConnectConfig
from ..ends.udp_visitor import VisitorDatagrams
from ..errors import UserError
from ..interfaces import IReactor
from ..plane.accept import Acceptor
from .signalling import LoginError
from .visitor import Visitor, wait_for_service


class LocalPort(Service):
    """
    @ivar number: the port number; known once it listens.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, connect: ConnectConfig, visitor: Visitor, wait: bool = True
    ) -> None:
        """@param wait: whether to look out for the service from the start."""
        self._reactor = reactor
        self._connect = connect
        self._visitor = visitor
        self._wait = wait
        self._port: IListeningPort | None = None
        self._acceptor: Acceptor | None = None
        self._waiting: Deferred[None] | None = None
        self._datagrams: VisitorDatagrams | None = None
        self.number = connect.local_port

    def privilegedStartService(self) -> None:
        """@raise UserError: if the port cannot be had."""
        if self._visitor.protocol == "udp":
            self._open_udp()
        else:
            self._open_tcp()
            self._visitor.protocol_known = self._protocol_known

    def _open_tcp(self) -> None:
        connect = self._connect
        try:
            self._port = self._reactor.listenTCP(
                connect.local_port, ServerFactory(), interface=connect.local_host
            )
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            place = f"[connect:{connect.name}] " if connect.name else ""
            raise UserError(
                f"{place}cannot listen on {connect.local_host}:{connect.local_port}: {why}; "
                "choose another local port"
            ) from None
        self.number = self._port.getHost().port  # type: ignore[attr-defined]
        self._acceptor = Acceptor(
            self._reactor,
            self._port,
            self._visitor.serve,
            has_room=self._visitor.machinery.dialer.room.for_visitors,
        )

    def startService(self) -> None:
        super().startService()
        connect = self._connect
        if self._datagrams is not None:
            self._datagrams.startService()
            self._visitor.serve_datagrams(self._datagrams)
        else:
            self._log.info(
                "{host}:{port} leads to {target}/{service}",
                host=connect.local_host,
                port=self.number,
                target=connect.provider,
                service=connect.service,
            )
        if self._wait:
            waiting = wait_for_service(self._visitor, self._reactor, self._say)
            self._waiting = Deferred.fromCoroutine(waiting)
            self._waiting.addErrback(lambda failure: failure.trap(CancelledError, LoginError))

    def close(self) -> None:
        """No new streams; those that there are go on."""
        self._close_tcp()

    def stopService(self) -> Deferred[Any] | None:
        super().stopService()
        if self._waiting is not None:
            self._waiting.cancel()
        self._visitor.protocol_known = lambda: None
        if self._datagrams is not None:
            self._datagrams.stopService()
        return self._close_tcp()

    def _open_udp(self) -> VisitorDatagrams:
        visitor = self._visitor
        connect = msgspec.structs.replace(self._connect, local_port=self.number)
        datagrams = VisitorDatagrams(
            self._reactor, connect, visitor.machinery.datagrams, visitor.want_link
        )
        datagrams.privilegedStartService()
        self.number = datagrams.number
        self._datagrams = datagrams
        return datagrams

    def _close_tcp(self) -> Deferred[Any] | None:
        port, self._port = self._port, None
        if port is None:
            return None
        if self._acceptor is not None:
            self._acceptor.stop()
        stopped: Deferred[Any] | None = port.stopListening()
        return stopped

    def _protocol_known(self) -> None:
        """It was opened as a TCP port; it may have to be a UDP port of the same number."""
        if self._visitor.protocol != "udp" or self._datagrams is not None:
            return
        self._close_tcp()
        try:
            datagrams = self._open_udp()
        except UserError as error:
            self._log.error("{error}", error=str(error))
            return
        if self.running:
            datagrams.startService()
            self._reactor.callLater(0, self._visitor.serve_datagrams, datagrams)

    def _say(self, why: str) -> None:
        connect = self._connect
        self._log.info(
            "waiting for {target}/{service}: {why}",
            target=connect.provider,
            service=connect.service,
            why=why,
        )
