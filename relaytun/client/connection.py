"""
The client's standing with its server: signed in, or on the way to be.

Comes back after every loss, with full-jitter back-off; a login that is refused waits like one
that fails.  Those who are interested hear of each new login, of each loss and of each message;
running streams have nothing to do with any of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from msgspec import UNSET
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..ends.legs import LegDialer
from ..ends.refusals import RequestError
from ..interfaces import IReactor
from ..nat.interfaces import is_own_address
from ..wire import messages
from ..wire.messages import Message
from ..wire.moods import Mood
from ..wire.text import printable
from .signalling import Control, LoginError

#: The longest wait between two attempts, seconds.
LONGEST_WAIT = 30.0
#: As long as streams wait for the server, the wait before the first attempt, how it grows,
#: and the longest.
HURRY = 0.15
HURRY_GROWTH = 1.4
HURRY_MOST = 5.0
#: Seconds that the echo of a heartbeat may take.
ECHO_TIMEOUT = 10.0
#: Seconds that the good-bye to the server may take.
GOOD_BYE = 3.0
#: Endings of a session that its user would otherwise not understand, in words.
ENDINGS = {
    Mood.BYTE_LIMIT.value: "the quota of a user, or max_bytes_per_session, is used up",
    Mood.FORBIDDEN.value: "it is not allowed any more",
}
#: Seconds that the answer to a request may take: the server gives a provider 10.
ANSWER_TIMEOUT = 15.0


class Listener(Protocol):
    """Who wants to hear of the control connection."""

    def control_up(self, control: Control) -> None:
        """The client is signed in."""

    def control_down(self) -> None:
        """It is not any more."""

    def received(self, message: Message) -> None:
        """The server said this."""


class ServerConnection(Service):
    """
    @ivar control: the control connection, while there is one.
    @ivar rtt: seconds that the last heartbeat took there and back.
    @ivar going_away: the server is about to end: new sessions are to be had elsewhere.
    @ivar dialer: how legs of its sessions get to the relay.
    @ivar hurries: each tells whether somebody's streams wait for the server to come back.
    @ivar finished: fires with a L{LoginError} when it gives up (without C{auto_reconnect}, or
        after a first failure with C{first_must_succeed}).
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        login: Callable[[], Deferred[Control]],
        *,
        heartbeat_interval: float = 15.0,
        reconnect_interval: float = 1.0,
        auto_reconnect: bool = True,
        first_must_succeed: bool = False,
        jitter: Callable[[], float] = random.random,
        dialer: LegDialer | None = None,
    ) -> None:
        """
        @param login: one attempt to sign in.
        @param dialer: how legs of sessions with this server are dialled.
        @param reconnect_interval: seconds; the back-off is between 0 and
            C{min(30, reconnect_interval * 2^failures)}.
        @param first_must_succeed: whether to give up if the very first attempt fails: somebody
            sits in front of it, and most likely has mistyped something.
        """
        self._reactor = reactor
        self._login = login
        self._heartbeat_interval = heartbeat_interval
        self._reconnect_interval = reconnect_interval
        self._auto_reconnect = auto_reconnect
        self._first_must_succeed = first_must_succeed
        self._jitter = jitter
        self.dialer = dialer
        self._listeners: list[Listener] = []
        self._waiting: list[Deferred[Control]] = []
        self._answers: dict[str, Deferred[Message]] = {}
        self._requests = 0
        self._beat: IDelayedCall | None = None
        self._beat_sent = 0.0
        self._thrown_out = False
        self._running: Deferred[None] | None = None
        self.control: Control | None = None
        self.going_away = False
        self.rtt: float | None = None
        self.hurries: list[Callable[[], bool]] = []
        self.finished: Deferred[LoginError] = Deferred()

    def add_listener(self, listener: Listener) -> None:
        """Have C{listener} hear of everything from now on."""
        self._listeners.append(listener)
        if self.control is not None:
            listener.control_up(self.control)

    def remove_listener(self, listener: Listener) -> None:
        """It hears of nothing any more; nothing happens if it did not."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def configure(
        self, heartbeat_interval: float, reconnect_interval: float, auto_reconnect: bool
    ) -> None:
        """These hold from the next heartbeat, and the next attempt, on."""
        self._heartbeat_interval = heartbeat_interval
        self._reconnect_interval = reconnect_interval
        self._auto_reconnect = auto_reconnect

    def persist(self) -> None:
        """From now on a server that cannot be used is no reason to give up."""
        if self._first_must_succeed:
            self._first_must_succeed = False
            if self.finished.called and self.running:
                self.finished = Deferred()
                self._start()

    def startService(self) -> None:
        super().startService()
        self._start()

    def _start(self) -> None:
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        running = self._running
        if running is None:
            return succeed(None)
        # Not the Deferred itself: whoever hears of L{finished} is called by it.
        stopped: Deferred[None] = Deferred(lambda _: running.cancel())
        running.addBoth(stopped.callback)
        if self.control is not None:
            self.control.close()
        else:
            running.cancel()
        return stopped.addTimeout(GOOD_BYE, self._reactor, lambda result, timeout: None)

    def when_connected(self) -> Deferred[Control]:
        """@return: fires with the control connection, now or when there is one."""
        if self.control is not None:
            return succeed(self.control)
        waiting: Deferred[Control] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def send(self, message: Message) -> None:
        """Tell the server something, if it is there."""
        if self.control is not None:
            self.control.send(message)

    async def list_clients(self) -> tuple[messages.ClientEntry, ...]:
        """Who is there."""
        answer = await self._ask("client_list", messages.GetClientList())
        assert isinstance(answer, messages.ClientList)
        return answer.clients

    async def request_session(self, target: str | None, service: str) -> messages.CreateSession:
        """
        Ask for a session.

        @param target: who is to provide it; L{None}: any client that offers it.
        @raise RequestError: if there is none to be had.
        """
        self._requests += 1
        request_id = str(self._requests)
        request = messages.ConnectRequest(
            to_client_id=UNSET if target is None else target,
            service_id=service,
            request_id=request_id,
            mode="link",
        )
        answer = await self._ask(request_id, request)
        assert isinstance(answer, messages.CreateSession)
        return answer

    async def _ask(self, key: str, question: Message) -> Message:
        control = await self.when_connected()
        answer = self._answers[key] = Deferred()
        answer.addTimeout(ANSWER_TIMEOUT, self._reactor)
        control.send(question)
        try:
            return await answer
        except (RequestError, CancelledError):
            raise
        except Exception:
            raise RequestError("timeout", "the server did not answer in time") from None
        finally:
            if self._answers.get(key) is answer:
                del self._answers[key]

    @property
    def passes_on(self) -> bool:
        """Whether the server passes on what clients tell each other: an older one does not."""
        control = self.control
        return control is not None and control.response.reflectors is not UNSET

    def network_changed(self) -> None:
        """This machine has other addresses: what comes from one that is gone is no connection."""
        control = self.control
        if control is not None and not is_own_address(control.local_host):
            self._log.warn("this machine has not the address any more that it signed in from")
            control.abort()

    async def _run(self) -> None:
        failures = attempts = 0
        while self.running:
            try:
                control = await self._login()
            except LoginError as error:
                if not self.running:
                    return
                if self._first_must_succeed:
                    raise
                failures += 1
                attempts += 1
                self._log.warn("{error}", error=str(error))
                if not self._auto_reconnect:
                    raise
            else:
                self._first_must_succeed = False
                signed_in = self._reactor.seconds()
                await self._use(control)
                if not self.running:
                    return
                if not self._auto_reconnect:
                    raise LoginError("the connection to the server is lost")
                # A login that is thrown out at once is a failure like any other.
                stayed = self._reactor.seconds() - signed_in > self._heartbeat_interval
                failures = 0 if stayed else failures + 1
                # A server that dies, however often, is no reason to be slow for those in a hurry.
                attempts = attempts + 1 if self._thrown_out else 0
            most = min(LONGEST_WAIT, self._reconnect_interval * 2 ** min(failures, 16))
            await self._pause(self._jitter() * most, attempts)

    async def _pause(self, wait: float, attempts: int) -> None:
        """
        @param wait: seconds, or fewer as soon as somebody's streams wait: those may find out
            later than this that the server is gone, or be opened in the meantime.
        """
        end = self._reactor.seconds() + wait
        told = False
        while (left := end - self._reactor.seconds()) > 0:
            hurried = any(hurry() for hurry in self.hurries)
            if hurried:
                most = min(HURRY_MOST, HURRY * HURRY_GROWTH ** min(attempts, 16))
                left = min(left, self._jitter() * most)
            if not told:
                told = True
                self._log.info("next attempt in {wait:.1f} s", wait=left)
            if hurried:
                await deferLater(self._reactor, left)
                return
            await deferLater(self._reactor, min(left, HURRY))

    async def _use(self, control: Control) -> None:
        self.control = control
        self.going_away = False
        self._thrown_out = False
        self._log.info("signed in as {client}", client=control.client_id)
        control.listen(self._received)
        waiting, self._waiting = self._waiting, []
        for listener in list(self._listeners):
            listener.control_up(control)
        for waiter in waiting:
            waiter.callback(control)
        self._beat = self._reactor.callLater(self._heartbeat_interval, self._send_beat)
        try:
            await control.lost
        finally:
            self.control = None
            self.rtt = None
            if self._beat.active():
                self._beat.cancel()
            answers, self._answers = self._answers, {}
            for answer in answers.values():
                answer.errback(RequestError("timeout", "the connection to the server is lost"))
            for listener in list(self._listeners):
                listener.control_down()
        if self.running:
            self._log.warn("the connection to the server is lost; running streams go on")

    def _received(self, message: Message) -> None:
        if isinstance(message, messages.Heartbeat):
            self._beat_answered()
        elif isinstance(message, messages.CreateSession):
            self._answer(str(message.request_id), message)
        elif isinstance(message, messages.ClientList):
            self._answer("client_list", message)
        elif isinstance(message, messages.Error):
            self._received_error(message)
        else:
            if isinstance(message, messages.GoingAway):
                self.going_away = True
                self._log.info("the server ends in {wait:.0f} s at most", wait=message.seconds)
            if isinstance(message, messages.SessionClosed) and message.reason in ENDINGS:
                self._log.warn("the server ended a session: {why}", why=ENDINGS[message.reason])
            for listener in list(self._listeners):
                listener.received(message)

    def _received_error(self, message: messages.Error) -> None:
        answer = self._answers.pop(str(message.request_id), None)
        if answer is not None:
            answer.errback(RequestError(message.code, printable(message.message)))
        else:
            self._thrown_out = True  # If it hangs up as well.
            self._log.warn(
                "the server says {code}: {message}",
                code=printable(message.code),
                message=printable(message.message),
            )

    def _answer(self, key: str, message: Message) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            answer.callback(message)
        elif isinstance(message, messages.CreateSession):
            self.send(messages.CloseSession(session_id=message.session_id))

    def _send_beat(self) -> None:
        assert self.control is not None
        self._beat_sent = self._reactor.seconds()
        self.control.send(messages.Heartbeat(timestamp=int(self._beat_sent * 1000)))
        self._beat = self._reactor.callLater(ECHO_TIMEOUT, self._beat_overdue, self.control)

    def _beat_answered(self) -> None:
        self.rtt = self._reactor.seconds() - self._beat_sent
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = self._reactor.callLater(self._heartbeat_interval, self._send_beat)

    def _beat_overdue(self, control: Control) -> None:
        self._log.warn("the server does not answer any more")
        control.abort()

    def _ended(self, failure: Failure) -> None:
        if isinstance(failure.value, LoginError):
            self.finished.callback(failure.value)
        elif self.running:
            self._log.failure("the control connection failed", failure)
