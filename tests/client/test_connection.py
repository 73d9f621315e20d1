"""Tests for L{relaytun.client.connection}: by a clock, without a network."""

from __future__ import annotations

from typing import Any
from unittest import mock

from msgspec import UNSET
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client.connection import (
    ANSWER_TIMEOUT,
    ECHO_TIMEOUT,
    ENDINGS,
    HURRY,
    HURRY_GROWTH,
    HURRY_MOST,
    RequestError,
    ServerConnection,
)
from relaytun.client.signalling import LoginError
from relaytun.wire import messages


class FakeControl:
    """A control connection that remembers what it is told."""

    def __init__(self, client_id: str = "me") -> None:
        self.client_id = client_id
        self.sent: list[messages.Message] = []
        self.lost: Deferred[None] = Deferred()
        self.receive: Any = None
        self.closed = False
        self.local_host = "127.0.0.1"
        self.response = messages.RegisterResponse(success=True, reflectors=())

    def send(self, message: messages.Message) -> None:
        self.sent.append(message)

    def listen(self, receive: Any) -> None:
        self.receive = receive

    def close(self) -> None:
        self.closed = True
        self.lose()

    def abort(self) -> None:
        self.lose()

    def lose(self) -> None:
        if not self.lost.called:
            self.lost.callback(None)


class Recorder:
    """A listener that remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def control_up(self, control: Any) -> None:
        self.heard.append("up")

    def control_down(self) -> None:
        self.heard.append("down")

    def received(self, message: messages.Message) -> None:
        self.heard.append(message)


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.logins: list[Any] = []
        self.attempts: list[float] = []
        self.jitter = 1.0

    def connection(self, **keywords: Any) -> ServerConnection:
        def login() -> Deferred[Any]:
            self.attempts.append(self.clock.seconds())
            outcome = self.logins.pop(0)
            return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)

        connection = ServerConnection(self.clock, login, jitter=lambda: self.jitter, **keywords)
        self.addCleanup(self.clock.advance, 0)
        return connection

    def up(self, **keywords: Any) -> tuple[ServerConnection, FakeControl]:
        control = FakeControl()
        self.logins.append(control)
        connection = self.connection(**keywords)
        connection.startService()
        return connection, control

    def test_ended_session(self) -> None:
        """Why a session was ended is said in words, if it is no matter of course."""
        _, control = self.up()
        with mock.patch.object(ServerConnection, "_log") as log:
            for reason in ("byte_limit", "happy", "forbidden"):
                control.receive(
                    messages.SessionClosed(session_id=32 * "0", reason=reason, bytes_transferred=0)
                )
        words = [call.kwargs["why"] for call in log.warn.call_args_list]
        self.assertEqual(words, [ENDINGS["byte_limit"], ENDINGS["forbidden"]])

    def test_back_off_doubles(self) -> None:
        """The n-th failure in a row waits up to 2^n seconds, and 30 at the most."""
        self.logins = [LoginError("no") for _ in range(7)]
        self.connection().startService()
        self.clock.pump([0.5] * 200)
        self.assertEqual(self.waits(), [2, 4, 8, 16, 30, 30])

    def test_full_jitter(self) -> None:
        """The wait is anything from nothing to its bound: a herd does not come at once."""
        self.jitter = 0.25
        self.logins = [LoginError("no"), LoginError("no")]
        self.connection().startService()
        self.clock.advance(0.5)
        self.assertEqual(self.attempts, [0, 0.5])

    def test_hurry(self) -> None:
        """As soon as streams wait, the next attempt does: a long wait that runs is cut short."""
        self.logins = [LoginError("no") for _ in range(9)]
        connection = self.connection(reconnect_interval=30.0)
        waiting: list[bool] = []
        connection.hurries.append(lambda: bool(waiting))
        connection.startService()
        self.clock.pump([0.125] * 8)
        self.assertEqual(self.attempts, [0])
        waiting.append(True)
        self.clock.pump([0.125] * 8)
        self.assertGreater(len(self.attempts), 2)

    def test_refused_at_once(self) -> None:
        """A login that is thrown out at once counts as a failure: no spin."""
        first, second = FakeControl(), FakeControl()
        self.logins = [first, second, FakeControl()]
        self.connection().startService()
        first.lose()
        self.clock.advance(1)
        self.assertEqual(self.attempts, [0])
        self.clock.advance(1)
        second.lose()
        self.clock.advance(3.5)
        self.assertEqual(self.attempts, [0, 2])
        self.clock.advance(0.5)
        self.assertEqual(self.attempts, [0, 2, 6])

    def waits(self) -> list[float]:
        return [b - a for a, b in zip(self.attempts, self.attempts[1:], strict=False)]

    def test_hurries(self) -> None:
        """While streams wait for it, it tries again soon, and then less and less soon."""
        self.logins = [LoginError("no") for _ in range(20)]
        connection = self.connection()
        connection.hurries += [lambda: False, lambda: True]
        connection.startService()
        for _ in range(19):
            (call,) = self.clock.getDelayedCalls()
            self.clock.advance(call.getTime() - self.clock.seconds())
        for failures, wait in enumerate(self.waits(), start=1):
            most = min(HURRY_MOST, HURRY * HURRY_GROWTH ** min(failures, 16))
            self.assertAlmostEqual(wait, most)

    def test_hurries_no_more(self) -> None:
        """When nobody waits any more, it waits as long as ever."""
        self.logins = [LoginError("no") for _ in range(4)]
        waiting = [True]
        connection = self.connection()
        connection.hurries.append(lambda: bool(waiting))
        connection.startService()
        waiting.clear()
        self.clock.advance(HURRY * HURRY_GROWTH)
        self.clock.advance(3.9)
        self.assertEqual(len(self.attempts), 2)
        self.clock.advance(0.2)
        self.assertEqual(len(self.attempts), 3)

    def test_hurries_after_loss(self) -> None:
        """The first attempt after a loss is the soonest."""
        connection, control = self.up(heartbeat_interval=15)
        connection.hurries.append(lambda: True)
        self.clock.advance(15)
        control.receive(messages.Heartbeat(timestamp=1))
        self.clock.advance(1)
        self.logins.append(FakeControl())
        control.lose()
        self.clock.advance(HURRY - 0.01)
        self.assertIsNone(connection.control)
        self.clock.advance(0.01)
        self.assertIsNotNone(connection.control)

    def test_hurry_is_no_spin(self) -> None:
        """A login that is thrown out at once is a failure, also for those in a hurry."""
        self.logins = [FakeControl() for _ in range(10)]
        connection = self.connection()
        connection.hurries.append(lambda: True)
        connection.startService()
        for _ in range(9):
            control: Any = connection.control
            control.receive(messages.Error(code="id_in_use", message="somebody else is you"))
            control.lose()
            (call,) = self.clock.getDelayedCalls()
            self.clock.advance(call.getTime() - self.clock.seconds())
        self.assertAlmostEqual(self.waits()[-1], HURRY * HURRY_GROWTH**9)

    def test_hurry_after_kills(self) -> None:
        """A server that is killed again and again is looked for as soon each time."""
        self.logins = [FakeControl() for _ in range(10)]
        connection = self.connection()
        connection.hurries.append(lambda: True)
        connection.startService()
        for _ in range(9):
            control: Any = connection.control
            control.lose()
            (call,) = self.clock.getDelayedCalls()
            self.clock.advance(call.getTime() - self.clock.seconds())
        self.assertAlmostEqual(self.waits()[-1], HURRY)

    def test_persist(self) -> None:
        """A server that is not essential any more is tried again, though the first try failed."""
        self.logins = [LoginError("no"), FakeControl()]
        connection = self.connection(first_must_succeed=True)
        connection.startService()
        self.successResultOf(connection.finished)
        connection.persist()
        self.assertIsNotNone(connection.control)
        self.assertNoResult(connection.finished)

    def test_persist_before_the_first(self) -> None:
        """Told during the first try, it does not give up when that fails."""
        first: Deferred[Any] = Deferred()
        logins = [first, succeed(FakeControl())]
        connection = ServerConnection(
            self.clock, lambda: logins.pop(0), first_must_succeed=True, jitter=lambda: 1.0
        )
        connection.startService()
        connection.persist()
        first.errback(LoginError("no"))
        self.assertNoResult(connection.finished)
        self.clock.advance(2)
        self.assertIsNotNone(connection.control)

    def test_persist_when_stopped(self) -> None:
        """What was stopped meanwhile is not started anew."""
        self.logins = [LoginError("no")]
        connection = self.connection(first_must_succeed=True)
        connection.startService()
        self.successResultOf(connection.stopService())
        connection.persist()
        self.assertEqual(self.attempts, [0])

    def test_comes_back(self) -> None:
        """After a loss it signs in again, and everybody hears of both."""
        connection, control = self.up()
        recorder = Recorder()
        connection.add_listener(recorder)
        self.logins.append(FakeControl("again"))
        control.lose()
        self.assertIsNone(connection.control)
        self.clock.pump([1] * 5)
        self.assertEqual(recorder.heard, ["up", "down", "up"])
        assert connection.control is not None
        self.assertEqual(connection.control.client_id, "again")

    def test_without_reconnecting(self) -> None:
        """Without auto_reconnect the first failure is the end, and says why."""
        self.logins = [LoginError("the reason")]
        connection = self.connection(auto_reconnect=False)
        connection.startService()
        self.assertEqual(str(self.successResultOf(connection.finished)), "the reason")

    def test_loss_without_reconnecting(self) -> None:
        """So is a loss."""
        connection, control = self.up(auto_reconnect=False)
        control.lose()
        self.assertIn("lost", str(self.successResultOf(connection.finished)))

    def test_first_must_succeed(self) -> None:
        """Where the first login must succeed, its failure is the end; one may stop it at once."""
        self.logins = [LoginError("no")]
        connection = self.connection(first_must_succeed=True)
        stopped: list[Any] = []
        connection.finished.addCallback(lambda _: stopped.append(connection.stopService()))
        connection.startService()
        self.successResultOf(stopped[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first_has_succeeded(self) -> None:
        """Once it has, every later loss and failure is made good."""
        connection, control = self.up(first_must_succeed=True)
        self.logins += [LoginError("no"), FakeControl()]
        control.lose()
        self.clock.pump([2.0, 4.0])
        self.assertIsNotNone(connection.control)
        self.assertNoResult(connection.finished)

    def test_heartbeats(self) -> None:
        """A heartbeat goes out each interval; its echo gives the round trip."""
        connection, control = self.up(heartbeat_interval=15)
        self.clock.advance(15)
        (beat,) = control.sent
        self.clock.advance(0.25)
        control.receive(beat)
        self.assertEqual(connection.rtt, 0.25)
        self.clock.advance(15)
        self.assertEqual(len(control.sent), 2)

    def test_no_echo(self) -> None:
        """A server that does not answer a heartbeat is given up."""
        connection, control = self.up(heartbeat_interval=15)
        self.logins.append(FakeControl())
        self.clock.advance(15)
        self.clock.advance(ECHO_TIMEOUT)
        self.assertTrue(control.lost.called)
        self.assertIsNone(connection.rtt)

    def test_passes_on(self) -> None:
        """A server that does not speak of reflectors is of an older version."""
        connection, control = self.up()
        self.assertTrue(connection.passes_on)
        control.response = messages.RegisterResponse(success=True)
        self.assertFalse(connection.passes_on)
        control.lose()
        self.assertFalse(connection.passes_on)

    def test_network_changed(self) -> None:
        """A connection from an address that this machine has no more is given up, no other one."""
        connection, control = self.up()
        connection.network_changed()
        self.assertFalse(control.lost.called)
        control.local_host = "192.0.2.55"
        connection.network_changed()
        self.assertTrue(control.lost.called)
        connection.network_changed()

    def test_request_session(self) -> None:
        """An answer finds the request that it belongs to."""
        connection, control = self.up()
        asked = [Deferred.fromCoroutine(connection.request_session("a", name)) for name in "xy"]
        for request in reversed(control.sent):
            assert isinstance(request, messages.ConnectRequest)
            control.receive(created(request.service_id, request.request_id))
        self.assertEqual(
            [self.successResultOf(each).session_id for each in asked], ["x" * 32, "y" * 32]
        )

    def test_request_any(self) -> None:
        """Who would have any client asks for none."""
        connection, control = self.up()
        asked = Deferred.fromCoroutine(connection.request_session(None, "x"))
        (request,) = control.sent
        assert isinstance(request, messages.ConnectRequest)
        self.assertIs(request.to_client_id, UNSET)
        control.receive(created(request.service_id, request.request_id))
        self.assertEqual(self.successResultOf(asked).session_id, "x" * 32)
        self.assertNotIn(b"toClientId", messages.encode(request))

    def test_request_refused(self) -> None:
        """An error finds its request, too, and its text is fit for a terminal."""
        connection, control = self.up()
        asked = Deferred.fromCoroutine(connection.request_session("a", "x"))
        (request,) = control.sent
        assert isinstance(request, messages.ConnectRequest)
        control.receive(
            messages.Error(
                code="unknown_client", message="no\x1b[31m", request_id=request.request_id
            )
        )
        error = self.failureResultOf(asked, RequestError).value
        self.assertEqual((error.code, str(error)), ("unknown_client", "no\\x1b[31m"))

    def test_request_unanswered(self) -> None:
        """A request that nobody answers fails; a late answer is given back to the server."""
        connection, control = self.up(heartbeat_interval=1000)
        asked = Deferred.fromCoroutine(connection.request_session("a", "x"))
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.failureResultOf(asked, RequestError).value.code, "timeout")
        control.receive(created("x", "1"))
        self.assertEqual(control.sent[-1], messages.CloseSession(session_id="x" * 32))

    def test_request_and_loss(self) -> None:
        """A request fails when the connection is lost."""
        connection, control = self.up()
        asked = Deferred.fromCoroutine(connection.request_session("a", "x"))
        control.lose()
        self.failureResultOf(asked, RequestError)

    def test_request_given_up(self) -> None:
        """Who gives a request up gets no other error; a late answer is given back."""
        connection, control = self.up()
        asked = Deferred.fromCoroutine(connection.request_session("a", "x"))
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        control.receive(created("x", "1"))
        self.assertEqual(control.sent[-1], messages.CloseSession(session_id="x" * 32))

    def test_request_waits(self) -> None:
        """A request made during an outage is sent when it is over."""
        control = FakeControl()
        self.logins = [LoginError("no"), control]
        connection = self.connection()
        connection.startService()
        asked = Deferred.fromCoroutine(connection.list_clients())
        self.assertNoResult(asked)
        self.clock.advance(2)
        self.assertEqual(control.sent, [messages.GetClientList()])
        control.receive(messages.ClientList(clients=()))
        self.assertEqual(self.successResultOf(asked), ())

    def test_other_messages(self) -> None:
        """What is no answer goes to those who listen; a stray error is logged, no more."""
        connection, control = self.up()
        recorder = Recorder()
        connection.add_listener(recorder)
        wanted = messages.OpenChannel(session_id="a" * 32, channel=1)
        control.receive(wanted)
        control.receive(messages.Error(code="internal", message="something"))
        self.assertEqual(recorder.heard, ["up", wanted])

    def test_stop(self) -> None:
        """Stopping says good-bye, waits for it, and leaves no timer."""
        connection, control = self.up()
        self.successResultOf(connection.stopService())
        self.assertTrue(control.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_between_attempts(self) -> None:
        """Stopping while it waits for the next attempt ends at once."""
        self.logins = [LoginError("no")]
        connection = self.connection()
        connection.startService()
        self.successResultOf(connection.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_never_started(self) -> None:
        """Stopping what never ran is nothing."""
        self.successResultOf(self.connection().stopService())

    def test_sending_without_a_connection(self) -> None:
        """Without a connection nobody listens."""
        self.connection().send(messages.GetClientList())


def created(service: str, request_id: Any) -> messages.CreateSession:
    return messages.CreateSession(
        session_id=service * 32,
        peer_client_id="a",
        service=messages.Service(id=service, protocol="tcp", local_port=1),
        relay_addr=messages.RelayAddress(host="127.0.0.1", port=1),
        channel_key="",
        request_id=request_id,
    )
