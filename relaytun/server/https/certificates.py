"""
Which certificate is shown for a host name: those of a folder, and those that were obtained.

The folder is looked at every two seconds.  What is broken in it, or half written, is complained
about once, and what was there before goes on serving; the folder belongs to whoever fills it and
is only read here.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ...errors import UserError
from ...wire.text import printable
from .credential import Credential

#: Seconds between two looks at the folder.
INTERVAL = 2.0


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class _Index:
    """Credentials by the names that they are for."""

    def __init__(self) -> None:
        self._named: dict[str, Credential] = {}

    def add(self, credential: Credential) -> None:
        """Of two for one name the one counts that ends later."""
        for name in credential.names:
            rival = self._named.get(name)
            if rival is None or rival.ends <= credential.ends:
                self._named[name] = credential

    def get(self, name: str) -> Credential | None:
        return self._named.get(name)


@dataclass
class _Source:
    """
    A certificate of the folder.

    @ivar state: what its files were like when they were read last, well or not.
    @ivar broken: whether that was complained about.
    """

    state: tuple[object, ...] = ()
    credential: Credential | None = None
    broken: bool = False


class Certificates(Service):
    """
    @ivar challenges: contexts for host names whose owner is being asked to prove himself, for
        the protocol acme-tls/1.  Another thread puts them here: a dictionary bears that.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Path | None,
        clock: IReactorTime,
        now: Callable[[], datetime.datetime] = _now,
    ) -> None:
        """
        @param directory: holds C{NAME.pem}, with the key in it or beside it in C{NAME.key}, or
            C{NAME/fullchain.pem} and C{NAME/privkey.pem}, also under C{live/}, as certbot has
            them; or is such a C{NAME} itself.  What counts are the names in the certificates, not
            those of the files.
        @param clock: for looking again.
        @param now: the time of the day.
        @raise UserError: if the folder cannot be read.
        """
        self.challenges: dict[str, SSL.Context] = {}
        self._directory = directory
        self._now = now
        self._sources: dict[Path, _Source] = {}
        self._of_folder = _Index()
        self._added = _Index()
        self._expired: WeakSet[Credential] = WeakSet()
        self._unreadable = False
        self._looking = LoopingCall(self._look_again)
        self._looking.clock = clock
        if directory is not None:
            try:
                self._look(directory)
            except OSError as error:
                raise UserError(
                    f"cannot read the folder of certificates {directory}: {error.strerror}"
                ) from None

    def startService(self) -> None:
        super().startService()
        if self._directory is not None:
            self._looking.start(INTERVAL, now=False)

    def stopService(self) -> Deferred[None] | None:
        if self._looking.running:
            self._looking.stop()
        stopped: Deferred[None] | None = super().stopService()
        return stopped

    def credential(self, name: str) -> Credential | None:
        """
        @param name: a host name in lower case.
        @return: what is shown for it: one for exactly this name before one with a wildcard;
            of several, the one that ends last.
        """
        for wanted in (name, "*." + name.partition(".")[2]):
            found = [
                each for each in (self._of_folder.get(wanted), self._added.get(wanted)) if each
            ]
            if found:
                return max(found, key=lambda each: each.ends)
        return None

    def find(self, name: str) -> SSL.Context | None:
        """
        @param name: a host name in lower case.
        @return: what ends TLS for it; C{None} if nothing here is for it.
        """
        credential = self.credential(name)
        if credential is None:
            return None
        if credential.ends < self._now() and credential not in self._expired:
            self._expired.add(credential)
            self._log.warn(
                "the certificate for {name} expired on {date:%Y-%m-%d}; it is used all the same",
                name=name,
                date=credential.ends,
            )
        return credential.context

    def add(self, name: str, pem: bytes) -> Credential:
        """
        Show this one as well, until one is added for the same names that ends later.

        @param pem: certificate, what leads to its authority, and key.
        @raise ValueError: if it is no pair, or not for C{name}.
        """
        credential = Credential.from_pem(pem, pem)
        if name not in credential.names:
            raise ValueError(f"the certificate is not for {name}")
        self._added.add(credential)
        return credential

    def _look_again(self) -> None:
        assert self._directory is not None
        try:
            self._look(self._directory)
            self._unreadable = False
        except OSError as error:
            if not self._unreadable:
                self._unreadable = True
                self._log.error(
                    "cannot read the folder of certificates {folder}: {why}",
                    folder=str(self._directory),
                    why=error.strerror,
                )

    def _look(self, directory: Path) -> None:
        found = dict(_pairs(directory))
        changed = False
        for path in self._sources.keys() - found.keys():
            del self._sources[path]
            changed = True
        for path, key in found.items():
            source = self._sources.setdefault(path, _Source())
            state = (_state(path), _state(key))
            if state != source.state:
                source.state = state
                changed |= self._read(source, path, key)
        if changed:
            self._of_folder = _Index()
            for path in sorted(self._sources):
                credential = self._sources[path].credential
                if credential is not None:
                    self._of_folder.add(credential)

    def _read(self, source: _Source, path: Path, key: Path) -> bool:
        try:
            credential = Credential.from_pem(path.read_bytes(), key.read_bytes())
            credential.context  # noqa: B018  Now, not when the first visitor comes.
        except (OSError, ValueError, SSL.Error) as error:
            if not source.broken:
                source.broken = True
                self._log.warn(
                    "{path} is not used{instead}: {why}",
                    path=str(path),
                    instead="; what it held before is" if source.credential else "",
                    why=printable(str(error)),
                )
            return False
        source.credential, source.broken = credential, False
        self._log.info(
            "{path}: certificate for {names}, until {date:%Y-%m-%d}",
            path=str(path),
            names=", ".join(sorted(credential.names)),
            date=credential.ends,
        )
        return True


def _pairs(directory: Path) -> Iterator[tuple[Path, Path]]:
    """Each file with certificates, and the one with its key."""
    own = directory / "fullchain.pem"
    if own.exists():  # It is the folder of one name itself.
        yield own, own.with_name("privkey.pem")
        return
    for path in directory.iterdir():
        if path.suffix == ".pem":
            key = path.with_suffix(".key")
            yield path, key if key.exists() else path
    for pattern in ("*/fullchain.pem", "live/*/fullchain.pem"):
        for path in directory.glob(pattern):
            yield path, path.with_name("privkey.pem")


def _state(path: Path) -> tuple[int, ...]:
    """What changes when the file does, however it is replaced."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
