"""Tests of L{relaytun.server.https.acme}: what is ordered, and when."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relaytun.errors import UserError
from relaytun.server.https import acme as module
from relaytun.server.https.acme import GATHERING, Acme, in_thread
from relaytun.server.https.certificates import Certificates
from relaytun.server.https.errors import Refused, Unreachable

from .issuer import DAY, Authority, now

AUTHORITY = Authority()
MINUTE = 60.0


class Fake:
    """
    An authority; its thread is the test's.

    @ivar asked: name and first kind of each order.
    @ivar outcome: what an order ends with: days of a certificate, or an error.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.outcome: float | Exception = 90
        self.held: list[Callable[[], None]] | None = None
        self.stopped = False

    def obtain(self, name: str, kinds: Sequence[str]) -> bytes:
        self.asked.append((name, kinds[0]))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return b"".join(AUTHORITY.issue(name, days=self.outcome))

    def stop(self) -> None:
        self.stopped = True

    def run(self, reactor: Any, work: Callable[[], bytes]) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()

        def go() -> None:
            try:
                result = work()
            except Exception as error:
                done.errback(error)
            else:
                done.callback(result)

        if self.held is None:
            go()
        else:
            self.held.append(go)
        return done


class AcmeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(now().timestamp())
        self.state = Path(self.mktemp())
        self.fake = Fake()
        self.start()

    def start(self) -> None:
        """As after a start of the process."""
        self.certificates = Certificates(None, self.clock)
        self.acme = Acme(
            self.clock,  # type: ignore[arg-type]
            self.state,
            "https://ca.example/directory",
            None,
            None,
            self.certificates,
            authority=self.fake,
            run=self.fake.run,
            now=self.clock.seconds,
            jitter=lambda low, high: low,
        )
        self.acme.startService()

    def restart(self) -> None:
        self.acme.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.start()

    def want(self, *names: str) -> None:
        self.acme.want(names)
        self.clock.advance(GATHERING)

    def pass_time(self, seconds: float, step: float = 3600.0) -> None:
        self.clock.pump([step] * int(seconds / step))

    def asked(self) -> list[str]:
        """The names of the orders since this was asked last."""
        names = [name for name, _ in self.fake.asked]
        self.fake.asked.clear()
        return names


class OrderTests(AcmeTestCase):
    """What is ordered."""

    def test_once(self) -> None:
        """Each name is ordered once, shown, and kept for the next start."""
        self.want("a.example", "B.example")
        self.assertEqual(self.asked(), ["a.example", "b.example"])
        self.assertIsNotNone(self.certificates.find("b.example"))
        self.want("a.example", "b.example")
        self.restart()
        self.want("b.example", "a.example")
        self.assertEqual(self.asked(), [])
        self.assertIsNotNone(self.certificates.find("b.example"))

    def test_no_matter(self) -> None:
        """Wildcards, addresses and what is no name at all are not ordered."""
        for name in ("*.example", "192.0.2.1", "::1", "", "..", "a/../b", "a b", "a" * 64):
            self.want(name)
        self.want(".".join(["a" * 60] * 5))
        self.assertEqual(self.asked(), [])

    def test_gathered(self) -> None:
        """However often the names change, they are looked through once, half a second later."""
        looked = []

        class View:
            def __iter__(self) -> Iterator[str]:
                looked.append(True)
                return iter([f"{number}.example" for number in range(2000)])

        self.fake.outcome = Refused("no")
        self.patch(Acme, "_write_attempts", lambda acme: None)
        for _ in range(2000):
            self.acme.want(View())
        with capturedLogs():
            self.clock.advance(GATHERING)
        self.assertEqual(len(looked), 1)
        self.assertEqual(len(self.asked()), 2000)

    def test_one_at_a_time(self) -> None:
        """The next order begins when the last one is done; what is not wanted then is none."""
        self.fake.held = []
        self.want("a.example", "b.example", "c.example")
        (first,) = self.fake.held
        self.want("c.example")
        self.assertEqual(len(self.fake.held), 1)
        first()
        self.clock.advance(0)
        self.fake.held[1]()
        self.clock.advance(0)
        self.assertEqual(self.asked(), ["a.example", "c.example"])
        self.assertEqual(len(self.fake.held), 2)

    def test_of_the_folder(self) -> None:
        """What has a certificate from elsewhere is ordered only once that has expired."""
        self.certificates.add("a.example", b"".join(AUTHORITY.issue("a.example", days=3)))
        self.want("a.example")
        self.pass_time(1.9 * DAY.total_seconds())
        self.assertEqual(self.asked(), [])
        self.pass_time(0.2 * DAY.total_seconds())
        self.assertEqual(self.asked(), ["a.example"])

    def test_came_meanwhile(self) -> None:
        """A name for which one came into the folder meanwhile is not ordered."""
        self.fake.outcome = Refused("no")
        self.want("a.example")
        self.certificates.add("a.example", b"".join(AUTHORITY.issue("a.example")))
        self.asked()
        self.pass_time(3600)
        self.assertEqual(self.asked(), [])

    def test_broken_file(self) -> None:
        """What was kept and cannot be read any more is ordered again."""
        (self.state / "acme" / "a.example.pem").write_text("nonsense")
        with capturedLogs() as events:
            self.want("a.example")
        self.assertEqual(self.asked(), ["a.example"])
        self.assertIn("a new certificate is ordered", formatEvent(events[0]))

    def test_renewed(self) -> None:
        """When two thirds of its lifetime have passed there is another one."""
        self.want("a.example")
        self.asked()
        self.pass_time(58 * DAY.total_seconds())
        self.assertEqual(self.asked(), [])
        self.fake.outcome = 1000
        self.pass_time(2 * DAY.total_seconds())
        self.assertEqual(self.asked(), ["a.example"])


class FailureTests(AcmeTestCase):
    """What happens when there is no certificate."""

    def test_delays(self) -> None:
        """Attempts for a name are 5, 10, 20... minutes apart, a day at last, each another way."""
        self.fake.outcome = Refused("not \x1b yours")
        with capturedLogs() as events:
            self.want("a.example")
        self.assertIn(
            "no certificate for a.example: not \\x1b yours; the next attempt is in 5 minutes",
            [formatEvent(event) for event in events],
        )
        self.assertEqual(self.fake.asked.pop(), ("a.example", "http-01"))
        times = []
        with capturedLogs():
            for minute in range(1, 8000):
                self.clock.advance(MINUTE)
                if self.asked():
                    times.append(minute)
        gaps = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
        self.assertEqual(gaps, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440])
        self.fake.asked.clear()
        self.pass_time(86400)
        self.assertEqual(self.fake.asked, [("a.example", "tls-alpn-01")])
        self.fake.asked.clear()
        self.pass_time(86400)
        self.assertEqual(self.fake.asked, [("a.example", "http-01")])

    def test_others_go_on(self) -> None:
        """A name that is refused keeps no other one waiting."""
        self.fake.outcome = Refused("no")
        self.want("a.example")
        self.fake.outcome = 90
        self.want("a.example", "b.example")
        self.assertEqual(self.asked(), ["a.example", "b.example"])

    def test_wanted_again(self) -> None:
        """Nor is a name that comes back while it is ordered."""
        self.fake.outcome = Refused("no")
        self.fake.held = []
        self.want("a.example")
        self.want()
        self.want("a.example")
        self.fake.held.pop()()
        self.clock.advance(MINUTE)
        self.assertEqual(self.fake.held, [])

    def test_restart(self) -> None:
        """A restart is no way around the delay; a success ends it."""
        self.fake.outcome = Refused("no")
        self.want("a.example")
        self.asked()
        self.restart()
        self.want("a.example")
        self.assertEqual(self.asked(), [])
        self.fake.outcome = 90
        self.pass_time(300, 60)
        self.assertEqual(self.asked(), ["a.example"])
        self.assertEqual((self.state / "acme" / "attempts.json").read_text(), "{}")

    def test_nonsense_kept(self) -> None:
        """Delays that cannot be read are none, and none is longer than a day and a quarter."""
        for nonsense in ("nonsense", "[]", '{"a.example": 5}', '{"a.example": [1, "soon"]}'):
            (self.state / "acme" / "attempts.json").write_text(nonsense)
            self.restart()
        (self.state / "acme" / "attempts.json").write_text('{"a.example": [1, 1e300]}')
        self.restart()
        self.want("a.example")
        self.assertEqual(self.asked(), [])
        self.pass_time(1.3 * 86400)
        self.assertEqual(self.asked(), ["a.example"])

    def test_unreachable(self) -> None:
        """An authority that is not there is asked for one name every 5, 10... minutes."""
        self.fake.outcome = Unreachable("nobody is there")
        with capturedLogs() as events:
            self.want("a.example", "b.example", "c.example")
            self.assertEqual(len(self.asked()), 1)
            self.pass_time(16 * MINUTE, MINUTE)
        self.assertEqual(len(self.asked()), 2)
        self.assertIn("it is asked again in 20 minutes", formatEvent(events[-1]))
        self.fake.outcome = 90
        self.pass_time(20 * MINUTE, MINUTE)
        self.assertEqual(sorted(self.asked()), ["a.example", "b.example", "c.example"])

    def test_our_fault(self) -> None:
        """An error of ours is logged as one, and delays the name."""
        self.fake.outcome = KeyError("surprise")
        self.want("a.example")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.pass_time(4 * MINUTE, MINUTE)
        self.assertEqual(self.asked(), ["a.example"])

    def test_wrong_certificate(self) -> None:
        """A certificate for another name is none."""
        self.fake.obtain = lambda name, kinds: b"".join(AUTHORITY.issue("b.example"))  # type: ignore[method-assign]
        with capturedLogs() as events:
            self.want("a.example")
        self.assertIn("is not for a.example", formatEvent(events[-1]))

    def test_full_disk(self) -> None:
        """When the delays cannot be kept, that is said, and they hold until the next start."""
        self.fake.outcome = Refused("no")
        self.patch(self.acme._state, "write", mock.Mock(side_effect=UserError("disk full")))
        with capturedLogs() as events:
            self.want("a.example")
        self.assertEqual(formatEvent(events[0]), "disk full")


class StopTests(AcmeTestCase):
    def test_stop(self) -> None:
        """What comes after the stop changes nothing; nothing is waited for."""
        self.fake.held = []
        self.want("a.example")
        self.acme.stopService()
        self.assertTrue(self.fake.stopped)
        self.fake.outcome = Unreachable("this server stops")
        with capturedLogs() as events:
            self.fake.held[0]()
        self.assertEqual(events, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_early(self) -> None:
        """Nor what was wanted just before it."""
        self.acme.want([f"{number}.example" for number in range(50)])
        self.acme.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.acme.want(["a.example"])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ChallengeTests(AcmeTestCase):
    def test_challenge(self) -> None:
        """A token of an order under way is answered, under its path and no other."""
        self.acme.http01["token"] = b"token.thumbprint"
        answer = self.acme.challenge("/.well-known/acme-challenge/token")
        self.assertEqual(answer, b"token.thumbprint")
        for path in ("/token", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/other"):
            self.assertIsNone(self.acme.challenge(path))


class PackageTests(SynchronousTestCase):
    def test_missing(self) -> None:
        """Without the package the user is told which one to install."""
        clock = Clock()
        hidden = {"acme": None, "relaytun.server.https.authority": None}
        with mock.patch.dict(sys.modules, hidden):  # type: ignore[dict-item]
            error = self.assertRaises(
                UserError,
                Acme,
                clock,
                Path(self.mktemp()),
                module.LETS_ENCRYPT,
                None,
                None,
                Certificates(None, clock),
            )
        self.assertIn("pip install 'relaytun[acme]'", str(error))

    def test_no_port(self) -> None:
        """Without a port for either proof there is nothing to be had."""
        clock = Clock()
        certificates = Certificates(None, clock)
        self.assertRaises(UserError, Acme, clock, Path(), "", None, None, certificates, ())


class ThreadTests(TestCase):
    async def test_thread(self) -> None:
        """What is done in a thread ends in the reactor's, well or not."""
        from twisted.internet import reactor

        self.assertEqual(await in_thread(reactor, lambda: b"done"), b"done")
        with self.assertRaises(ZeroDivisionError):
            await in_thread(reactor, lambda: bytes(1 // 0))
