"""
Reloading: a changed file is applied to what changed, and to nothing else.

The file is read and judged as at the start.  If anything is wrong with it, nothing changes and
whoever asked hears what is wrong.  What cannot change while the daemon runs stays as it is, and is
said to need a restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from .errors import UserError

C = TypeVar("C", bound=Struct)


class Reloader(Generic[C]):
    """Reads the configuration again, when asked by command or by SIGHUP."""

    _log = Logger()

    def __init__(self, load: Callable[[], C], apply: Callable[[C], Awaitable[list[str]]]) -> None:
        """
        @param load: reads it; raises L{UserError} if it is not valid.
        @param apply: makes it hold, and says in a line each what changed and what needs a restart;
            raises L{UserError}, before it has changed anything, if that cannot be.
        """
        self._load = load
        self._apply = apply
        self._one_at_a_time = DeferredLock()

    def reload(self) -> Deferred[list[str]]:
        """
        @return: a line for each thing that changed, or that needs a restart; none: nothing did.
        @raise UserError: (in the Deferred) if the file is not valid; nothing has changed then.
        """
        return self._one_at_a_time.run(self._reload)

    def hangup(self) -> None:
        """SIGHUP came: reload, and tell the log."""
        self.reload().addErrback(self._refused)

    def _reload(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._read_and_apply())

    async def _read_and_apply(self) -> list[str]:
        lines = await self._apply(self._load())
        for line in lines or ["nothing has changed"]:
            self._log.info("reload: {line}", line=line)
        return lines

    def _refused(self, failure: Failure) -> None:
        if not failure.check(UserError):
            self._log.failure("reload failed", failure)
            return
        for line in str(failure.value).splitlines():
            self._log.error("reload: {line}; nothing has changed", line=line)


def apply_changes(
    old: C, new: C, appliers: Mapping[str, Callable[[C], Any]]
) -> tuple[C, list[str]]:
    """
    Apply what differs between two configurations.

    @param appliers: for each field that can change while the daemon runs what makes it so; one
        that stands there for several fields is called once.
    @return: the configuration that holds now, and the lines about it.
    """
    lines: list[str] = []
    kept: dict[str, Any] = {}
    due: list[Callable[[C], Any]] = []
    for field in new.__struct_fields__:
        if getattr(old, field) == getattr(new, field):
            continue
        if field in appliers:
            lines.append(f"{field}: changed")
            due.append(appliers[field])
        else:
            lines.append(f"{field}: needs a restart")
            kept[field] = getattr(old, field)
    holds = structs.replace(new, **kept)
    for apply in dict.fromkeys(due):
        apply(holds)
    return holds, lines
