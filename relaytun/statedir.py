"""
A state directory: the few small files that a server or a client keeps over a restart.

The directory is 0700, its files are 0600, each is replaced as a whole or not at all, and one
process at a time may hold it.  Nothing here knows what the files mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import UserError


class StateDir:
    """
    @ivar path: the directory; made by the constructor, with its parents, if it is not there.
    """

    def __init__(self, path: Path) -> None:
        """@raise UserError: if it can be neither made nor used."""
        self.path = path
        self._lock: int | None = None
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = path.stat().st_mode
            if mode & 0o077 and path.stat().st_uid == os.geteuid():
                path.chmod(0o700)
        except OSError as error:
            raise UserError(
                f"cannot use the state directory {path}: {error.strerror}; "
                "name another one with --state-dir or the key state_dir"
            ) from None

    def lock(self, name: str = "lock", holder: str = "relaytun process") -> None:
        """
        Hold the directory until this process ends.

        @param name: of the file that stands for it; those of other names may hold it, too.
        @param holder: what has such a file, for the message.
        @raise UserError: if another process holds it.
        """
        try:
            self._lock = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner(name)
            self.unlock()
            raise UserError(
                f"another {holder}{owner} uses the state directory {self.path}; "
                "end it, or name another directory with --state-dir"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write to the state directory {self.path}: {error.strerror}; "
                "name another one with --state-dir or the key state_dir"
            ) from None
        with contextlib.suppress(OSError):  # The number is only for the message above.
            os.ftruncate(self._lock, 0)
            os.write(self._lock, str(os.getpid()).encode())

    def unlock(self) -> None:
        """Let go of the directory; nothing happens if it is not held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, name: str) -> bytes | None:
        """The file's content, or C{None} if there is no such file."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"cannot read {self.path / name}: {error.strerror}") from None

    def write(self, name: str, content: bytes) -> None:
        """Put C{content} in place of the file, at once and on the disk."""
        with self._new(content) as temporary:
            os.replace(temporary, self.path / name)

    def read_or_make(self, name: str, make: Callable[[], bytes]) -> bytes:
        """
        The file's content; if there is none, that of a new one.

        Two processes that make it at the same time end with the same content.
        """
        content = self.read(name)
        if content is None:
            with self._new(make()) as temporary, contextlib.suppress(FileExistsError):
                os.link(temporary, self.path / name)
            content = self.read(name)
        assert content is not None
        return content

    @contextlib.contextmanager
    def _new(self, content: bytes) -> Iterator[str]:
        """A temporary 0600 file with C{content}, on the disk, gone afterwards."""
        temporary = None
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self.path)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            yield temporary
        except OSError as error:
            raise UserError(
                f"cannot write to the state directory {self.path}: {error.strerror}"
            ) from None
        finally:
            if temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)

    def _owner(self, name: str) -> str:
        try:
            return f" (pid {int((self.path / name).read_bytes())})"
        except (OSError, ValueError):
            return ""
