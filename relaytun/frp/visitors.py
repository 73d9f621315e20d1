"""
One visitor of frp's -> a connect of ours, or a remark why there is none.
"""

from __future__ import annotations

from relaytun.frp import names, reasons
from relaytun.frp.identifiers import identifier, named_part
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part
from relaytun.frp.table import Table

_KINDS = ("stcp", "sudp", "xtcp")
_KNOWN = frozenset(names.VISITOR.values()) | {"enabled"}


def connect_part(table: Table, user: str, notes: Notes) -> Part | None:
    """
    Make the connect that a visitor becomes.

    @param user: frp's, whose services are visited unless the visitor names another user.
    @return: L{None} if there is no such connect here; why is in the remarks.
    @raise ConfigError: a value is wrong for frp too.
    """
    kind = table.text("type").lower()
    if kind not in _KINDS:
        raise table.broken("type", f"frp's visitors have {', '.join(_KINDS)}")
    if table.text("plugin.type"):
        key = table.spelled("plugin.type")
        notes.add(table.place, key, "left out: visitor plugins have no counterpart")
        return None
    service = table.text("serverName")
    if not service:
        raise table.broken("serverName", "missing: frp needs it")
    port = table.number("bindPort")
    if port <= 0:
        notes.add(
            table.place,
            table.spelled("bindPort"),
            "left out: it opens no port; what falls back to it needs no fallback here",
        )
        return None
    server_user = table.text("serverUser")
    owner = server_user or user
    part = named_part("connect", table.place, table.place, notes)
    if server_user:
        part.put("target", identifier(server_user, "client"))
        key = table.spelled("serverUser")
        why = "is target now, the client_id of who offers it: see that it is their user"
        notes.add(table.place, key, why)
    else:
        part.comment("No target: any client that is online and offers the service.")
    part.put("service", identifier(f"{owner}.{service}" if owner else service, "service"))
    part.put("local_host", table.text("bindAddr") or "127.0.0.1")
    part.put("local_port", str(port))
    table.finish(notes, _KNOWN, reasons.VISITOR, f"a visitor of type {kind}")
    return part
