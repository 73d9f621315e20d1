"""
Certificates that the server obtains and renews by itself, for the host names that it serves.

One order at a time, in a thread: what is asked of the authority is L{Authority}'s business; here
is what is to be ordered, and when.  A name for which it fails waits five minutes, then ten, at
last a day; that is remembered over a restart.  An authority that is not there at all makes all
names wait.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...errors import UserError
from ...interfaces import IReactor
from ...statedir import StateDir
from ...wire.text import printable
from .certificates import Certificates
from .credential import Credential
from .errors import Refused, Unreachable

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
CHALLENGE_PATH = "/.well-known/acme-challenge/"

#: Seconds in which changes of what is wanted are gathered.
GATHERING = 0.5
#: Names whose files are read in one turn of the reactor.
AT_ONCE = 10
#: Seconds after a first failure, and at most; each is up to a quarter longer.
SHORTEST_DELAY = 5 * 60.0
LONGEST_DELAY = 24 * 3600.0
#: Seconds after which the time of the day is looked at again: it may be set, or leap.
LONGEST_SLEEP = 3600.0
#: Which part of its lifetime has passed when a certificate is renewed: 60 days of 90.
RENEWED_AT = 2 / 3

_ATTEMPTS = "attempts.json"
#: A name of 250 letters and .pem make a file name that every file system takes.
_HOST_NAME = re.compile(r"(?=.{1,250}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


class Obtains(Protocol):
    """What is wanted of an authority; it blocks."""

    def obtain(self, name: str, kinds: Sequence[str]) -> bytes: ...

    def stop(self) -> None: ...


class Acme(Service):
    """
    @ivar http01: what is answered for each token; see L{challenge}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        state: Path,
        directory_url: str,
        email: str | None,
        ca: Path | None,
        certificates: Certificates,
        kinds: Sequence[str] = ("http-01", "tls-alpn-01"),
        *,
        authority: Obtains | None = None,
        run: Callable[[Any, Callable[[], bytes]], Deferred[bytes]] | None = None,
        now: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """
        @param state: the state directory; keys and certificates are kept in C{acme/} there.
        @param directory_url, email, ca: as for L{Authority}.
        @param certificates: where what is obtained is shown, and proven with.
        @param kinds: how it can be proven that a name is ours, the best way first: C{http-01}
            where there is a port for HTTP host names, C{tls-alpn-01} where there is one for
            HTTPS.  When one does not succeed the next is tried.
        @param authority, run, now, jitter: for tests.
        @raise UserError: if the package C{acme} is not installed, C{state} cannot be used, or
            there are no C{kinds}.
        """
        if not kinds:
            raise UserError(
                "acme needs a port to prove names on: vhost_http_port, vhost_https_port"
            )
        self.http01: dict[str, bytes] = {}
        self._reactor = reactor
        self._certificates = certificates
        self._kinds = tuple(kinds)
        self._state = StateDir(state / "acme")
        self._authority = authority or self._real_authority(directory_url, email, ca)
        self._run = run or in_thread
        self._now = now
        self._jitter = jitter
        self._wanted: Iterable[str] = ()
        #: When something is to be done for each name, seconds since 1970.
        self._due: dict[str, float] = {}
        self._ours: dict[str, Credential] = {}
        #: Of each name: orders that failed, one after the other, and when the next may be made.
        self._attempts: dict[str, tuple[int, float]] = {}
        self._fresh: deque[str] = deque()
        self._gathering: Any = None
        self._preparing: Any = None
        self._alarm: Any = None
        self._busy = False
        self._unreachable = 0
        self._not_before = 0.0

    def challenge(self, path: str) -> bytes | None:
        """
        @param path: of a request, without a query.
        @return: what an authority wants to read there.
        """
        if not path.startswith(CHALLENGE_PATH):
            return None
        return self.http01.get(path.removeprefix(CHALLENGE_PATH))

    def want(self, names: Iterable[str]) -> None:
        """
        These host names are served at present.

        @param names: all of them, also those that are no matter for an authority (wildcards,
            addresses).  Looked through half a second later, however often this is called until
            then: so a view of what changes costs nothing here.
        """
        self._wanted = names
        self._gather()

    def startService(self) -> None:
        super().startService()
        self._attempts = self._read_attempts()
        self._gather()

    def stopService(self) -> Deferred[None] | None:
        self._authority.stop()
        for call in (self._gathering, self._preparing, self._alarm):
            if call is not None and call.active():
                call.cancel()
        stopped: Deferred[None] | None = super().stopService()
        return stopped

    def _real_authority(self, directory_url: str, email: str | None, ca: Path | None) -> Obtains:
        try:
            from .authority import Authority
        except ImportError as error:
            raise UserError(
                f"acme needs a package that is not installed ({error}): "
                "pip install 'relaytun[acme]'"
            ) from None
        challenges = self._certificates.challenges
        return Authority(directory_url, email, ca, self._state, self.http01, challenges)

    def _gather(self) -> None:
        if self.running and (self._gathering is None or not self._gathering.active()):
            self._gathering = self._reactor.callLater(GATHERING, self._gathered)

    def _gathered(self) -> None:
        lower = (name.lower() for name in self._wanted)
        wanted = dict.fromkeys(name for name in lower if _is_for_authorities(name))
        self._wanted = wanted
        for name in self._due.keys() - wanted.keys():
            del self._due[name]
        self._fresh = deque(name for name in wanted if name not in self._due)
        if self._preparing is None or not self._preparing.active():
            self._prepare()

    def _prepare(self) -> None:
        """A few names in each turn of the reactor: there may be thousands of files to be read."""
        for _ in range(min(AT_ONCE, len(self._fresh))):
            name = self._fresh.popleft()
            self._load(name)
            self._due[name] = self._when_due(name)
        if self._fresh:
            self._preparing = self._reactor.callLater(0, self._prepare)
        else:
            self._next()

    def _load(self, name: str) -> None:
        """Show what was obtained before this process began."""
        if name in self._ours:
            return
        try:
            pem = self._state.read(f"{name}.pem")
            if pem is not None:
                self._ours[name] = self._certificates.add(name, pem)
        except (UserError, ValueError) as error:
            self._log.warn("{why}; a new certificate is ordered", why=str(error))

    def _when_due(self, name: str) -> float:
        """When one has to be ordered, by the certificate that is shown and the last failure."""
        _, due = self._attempts.get(name, (0, 0.0))
        shown = self._certificates.credential(name)
        if shown is None:
            return due
        begin, end = shown.begins.timestamp(), shown.ends.timestamp()
        if shown is self._ours.get(name):
            return max(due, begin + (end - begin) * RENEWED_AT)
        return max(due, end)  # Somebody else renews it, we hope.

    def _next(self) -> None:
        """Begin the next order, or wait for its time."""
        if self._busy or not self.running:
            return
        now = self._now()
        while self._due:
            name = min(self._due, key=self._due.__getitem__)
            due = max(self._due[name], self._not_before)
            if due > now:
                self._wake_in(min(due - now, LONGEST_SLEEP))
                return
            # A certificate may have come into the folder since; and what was not wanted for a
            # moment may have been ordered all the same.
            self._due[name] = self._when_due(name)
            if self._due[name] <= now:
                self._order(name)
                return

    def _wake_in(self, delay: float) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = self._reactor.callLater(delay, self._next)

    def _order(self, name: str) -> None:
        self._busy = True
        failures, _ = self._attempts.get(name, (0, 0.0))
        turned = failures % len(self._kinds)
        kinds = self._kinds[turned:] + self._kinds[:turned]

        def order() -> bytes:
            pem = self._authority.obtain(name, kinds)
            self._state.write(f"{name}.pem", pem)
            return pem

        ordering = self._run(self._reactor, order)
        ordering.addCallback(self._obtained, name)
        ordering.addErrback(self._failed, name)
        ordering.addBoth(self._ordered)

    def _obtained(self, pem: bytes, name: str) -> None:
        self._unreachable = 0
        credential = self._ours[name] = self._certificates.add(name, pem)
        if self._attempts.pop(name, None) is not None:
            self._write_attempts()
        self._log.info(
            "{name} has a certificate, until {date:%Y-%m-%d}", name=name, date=credential.ends
        )

    def _failed(self, failure: Failure, name: str) -> None:
        if not self.running:
            return
        why = printable(failure.getErrorMessage(), 500)
        if failure.check(Unreachable):
            self._unreachable += 1
            delay = self._delay(self._unreachable)
            self._not_before = self._now() + delay
            self._log.warn(
                "the certificate authority gives no certificates: {why}; "
                "it is asked again in {minutes} minutes",
                why=why,
                minutes=round(delay / 60),
            )
            return
        failures, _ = self._attempts.get(name, (0, 0.0))
        delay = self._delay(failures + 1)
        self._attempts[name] = failures + 1, self._now() + delay
        self._write_attempts()
        if not failure.check(Refused, UserError, ValueError):
            self._log.failure("an order went wrong", failure)
        self._log.warn(
            "no certificate for {name}: {why}; the next attempt is in {minutes} minutes",
            name=name,
            why=why,
            minutes=round(delay / 60),
        )

    def _ordered(self, result: Any) -> Any:
        self._busy = False
        if self.running:
            self._wake_in(0)
        return result

    def _delay(self, failures: int) -> float:
        delay = min(LONGEST_DELAY, SHORTEST_DELAY * 2.0 ** min(failures - 1, 20))
        return delay * self._jitter(1.0, 1.25)

    def _read_attempts(self) -> dict[str, tuple[int, float]]:
        """What failed before this process began, so that a restart is no way around the delay."""
        try:
            kept = json.loads(self._state.read(_ATTEMPTS) or b"{}")
            latest = self._now() + LONGEST_DELAY * 1.25
            return {
                str(name): (int(failures), min(float(due), latest))
                for name, (failures, due) in kept.items()
                if due > self._now() - LONGEST_DELAY
            }
        except (UserError, ValueError, TypeError, AttributeError):
            return {}

    def _write_attempts(self) -> None:
        long_ago = self._now() - LONGEST_DELAY
        self._attempts = {name: kept for name, kept in self._attempts.items() if kept[1] > long_ago}
        try:
            self._state.write(_ATTEMPTS, json.dumps(self._attempts).encode())
        except UserError as error:
            self._log.warn("{why}", why=str(error))


def _is_for_authorities(name: str) -> bool:
    """Whether it is the name of one host: no wildcard, no address."""
    if not _HOST_NAME.fullmatch(name):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def in_thread(reactor: Any, work: Callable[[], bytes]) -> Deferred[bytes]:
    """
    Do what blocks in a thread.

    Not one of the reactor's own: at the end of the process it would wait for an authority that
    does not answer, and until then the resolver needs them.
    """
    done: Deferred[bytes] = Deferred()

    def run() -> None:
        try:
            result = work()
        except Exception:
            reactor.callFromThread(done.errback, Failure())
        else:
            reactor.callFromThread(done.callback, result)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return done
