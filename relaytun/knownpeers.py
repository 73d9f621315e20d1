"""
The identities of the clients at the other end, remembered from the first link with each.

C{known_peers} in the state directory has a line for each of them::

    client-id sha256:<64 hex digits> service,service

The third column, if there is one, has the services of that client that were visited over a link:
one of them in raw mode would be a step back.  C{#} starts a comment.  People may edit the file at
any time, and several processes of one state directory use it; so it is read again whenever it has
changed, and what is written is added to what stands there.

A pin in the configuration wins over the file.  Nothing here dials, proves or logs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .errors import UserError
from .statedir import StateDir

NAME = "known_peers"
#: The most lines that the file grows to by itself.
MOST_LINES = 10_000

_HEADER = "# The clients that this one knows: id, fingerprint, services visited over a link."
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COMMENT = re.compile(r"(?:^|\s)#")
#: What a server calls a passing login that has no name: another name each time.
_GUEST = re.compile(r"guest-[0-9a-f]{8}")


class PeerChanged(UserError):
    """A client shows another identity than the one that it has to have."""


@dataclass(frozen=True)
class _Line:
    """
    @ivar text: as it stands in the file.
    @ivar client_id: empty for a line that is about nobody.
    @ivar fingerprint: empty if the line is about somebody, and cannot be read.
    @ivar comment: what follows, with the blanks before it.
    """

    text: str
    client_id: str = ""
    fingerprint: str = ""
    services: tuple[str, ...] = ()
    comment: str = ""

    @classmethod
    def read(cls, text: str) -> _Line:
        found = _COMMENT.search(text)
        end = found.start() if found else len(text)
        client_id, fingerprint, services, *rest = [*text[:end].split(), "", "", ""]
        names = tuple(services.split(",")) if services else ()
        if not client_id:
            return cls(text)
        if (
            any(rest)
            or _FINGERPRINT.fullmatch(fingerprint.lower()) is None
            or any(_ID.fullmatch(name) is None for name in names)
        ):
            return cls(text, client_id)
        return cls(text, client_id, fingerprint.lower(), names, text[end:])

    @classmethod
    def make(cls, client_id: str, fingerprint: str, services: tuple[str, ...]) -> _Line:
        text = " ".join(part for part in (client_id, fingerprint, ",".join(services)) if part)
        return cls(text, client_id, fingerprint, services)

    def with_service(self, service: str) -> _Line:
        line = self.make(self.client_id, self.fingerprint, (*self.services, service))
        return replace(line, text=line.text + self.comment, comment=self.comment)


class KnownPeers:
    """
    Trust on first use: the word of the server counts once, and what was proven then ever after.

    @ivar path: of the file.
    """

    def __init__(
        self, state: StateDir, warn: Callable[[str], None] = lambda sentence: None
    ) -> None:
        """@param warn: told, once each, why a client cannot be remembered."""
        self.path = state.path / NAME
        self._state = state
        self._warn = warn
        self._warned: set[str] = set()
        self._lines: list[_Line] = []
        self._stamp: tuple[int, ...] | None = None

    def check(self, client_id: str, fingerprint: str, pinned: str | None = None) -> None:
        """
        May C{client_id} have this identity?  A client that is not known may have any.

        @param fingerprint: of the identity that it has, or is said to have.
        @param pinned: the one that the configuration demands.
        @raise PeerChanged: it may not.
        @raise UserError: its line, or the file, cannot be read.
        """
        if pinned is not None:
            if fingerprint != pinned:
                raise _not_the_pinned(client_id, fingerprint, pinned)
            return
        known = self._readable(client_id)
        if known and all(line.fingerprint != fingerprint for _, line in known):
            number, line = known[0]
            raise self._changed(client_id, fingerprint, line.fingerprint, number)

    def remember(self, client_id: str, fingerprint: str, service: str | None = None) -> None:
        """
        Keep what a link has proven.

        A line with another fingerprint stays as it is, and nothing is added beside it: whoever
        gets here past such a line has a pin.

        @param service: one of C{client_id}'s that was visited over that link.
        """
        if _GUEST.fullmatch(client_id):
            return
        try:
            self._refresh()
            if self._nothing_new(client_id, fingerprint, service):
                return
            with self._alone():
                self._refresh()
                self._add(client_id, fingerprint, service)
                self._write()
        except (UserError, OSError) as error:
            self._warn_once(f"{error}; new clients are not remembered for good")

    def was_linked(self, client_id: str, service: str) -> bool:
        """
        Whether the service was visited over a link before.

        @raise UserError: the client's line, or the file, cannot be read.
        """
        return any(service in line.services for _, line in self._readable(client_id))

    def downgraded(self, client_id: str, service: str) -> str:
        """What to say of a service that L{was_linked} and is offered in raw mode now."""
        numbers = [number for number, line in self._of(client_id) if service in line.services]
        line = f"line {numbers[0]} of {self.path}" if numbers else str(self.path)
        return (
            f"{client_id} offers {service} in raw mode now, in which the server can read all of "
            "it; before, it was encrypted up to that client\n"
            f"either the mode was changed at {client_id}, or the server wants to listen in: ask "
            f"whoever runs {client_id}\n"
            f"to visit it all the same, write mode = raw in its [connect:...] section, or remove "
            f"{service} from {line}"
        )

    def _nothing_new(self, client_id: str, fingerprint: str, service: str | None) -> bool:
        known = self._of(client_id)
        if known:
            own = [line for _, line in known if line.fingerprint == fingerprint]
            return not own or service is None or any(service in line.services for line in own)
        if len(self._lines) < MOST_LINES:
            return False
        # Not the oldest out: a server could make up clients until the one is forgotten whose
        # place it wants to take.
        self._warn_once(
            f"{self.path} has {MOST_LINES} lines: no further clients are remembered; remove those "
            "that you do not need"
        )
        return True

    def _add(self, client_id: str, fingerprint: str, service: str | None) -> None:
        if self._nothing_new(client_id, fingerprint, service):
            return  # Another process was faster.
        for number, line in self._of(client_id):
            if service is not None and line.fingerprint == fingerprint:
                self._lines[number - 1] = line.with_service(service)
                return
        if not self._lines:
            self._lines.append(_Line.read(_HEADER))
        services = () if service is None else (service,)
        self._lines.append(_Line.make(client_id, fingerprint, services))

    def _of(self, client_id: str) -> list[tuple[int, _Line]]:
        """The lines about C{client_id}, with their numbers."""
        return [
            (number, line)
            for number, line in enumerate(self._lines, start=1)
            if line.client_id == client_id
        ]

    def _readable(self, client_id: str) -> list[tuple[int, _Line]]:
        """
        The lines about C{client_id}, as they are in the file now.

        @raise UserError: one of them cannot be read; skipping it would forget the client.
        """
        self._refresh()
        known = self._of(client_id)
        for number, line in known:
            if not line.fingerprint:
                raise UserError(
                    f"line {number} of {self.path} is about {client_id} and cannot be read: write "
                    "ID sha256:HEX SERVICE,SERVICE, or remove it"
                )
        return known

    def _refresh(self) -> None:
        """Read the file if it has changed."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        # Whatever bytes a person has put into it come out again as they were.
        content = (self._state.read(NAME) or b"").decode("utf-8", "surrogateescape")
        lines = content.split("\n")
        if not lines[-1]:
            lines.pop()
        self._lines = [_Line.read(text) for text in lines]
        self._stamp = stamp

    def _write(self) -> None:
        content = "".join(f"{line.text}\n" for line in self._lines)
        self._state.write(NAME, content.encode("utf-8", "surrogateescape"))
        self._stamp = self._stamp_now()

    def _stamp_now(self) -> tuple[int, ...]:
        """Changes when the file does."""
        try:
            status = self.path.stat()
        except OSError:  # The reading finds out more.
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process adds something meanwhile, which would be lost."""
        directory = os.open(self._state.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _changed(self, client_id: str, seen: str, known: str, number: int) -> PeerChanged:
        return PeerChanged(
            f"the identity of {client_id} has changed: somebody may be in between and pass "
            f"for {client_id}, or it was set up anew\n"
            f"known is {known}, by line {number} of {self.path}\n"
            f"seen is  {seen}\n"
            f"ask whoever runs {client_id} what relaytun id prints there; if it is what is seen, "
            f"remove line {number} of {self.path}, or pin it: peer_fingerprint = {seen} for one "
            f"that you visit, allow = {client_id}@{seen} for one that visits you"
        )

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence)


def _not_the_pinned(client_id: str, seen: str, pinned: str) -> PeerChanged:
    return PeerChanged(
        f"{client_id} is not the client that the configuration demands: somebody may be in "
        f"between and pass for {client_id}, or it was set up anew\n"
        f"pinned is {pinned}, by peer_fingerprint or allow\n"
        f"seen is   {seen}\n"
        f"ask whoever runs {client_id} what relaytun id prints there; if it is what is seen, "
        "correct the configuration"
    )
