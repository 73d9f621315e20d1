"""
The tables of a frpc file -> the sections of our client.ini.

What becomes of one proxy or one visitor is decided in C{proxies} and C{visitors}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from relaytun.config import values
from relaytun.errors import ConfigError
from relaytun.frp import names, reasons
from relaytun.frp.identifiers import Identifiers, identifier
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part
from relaytun.frp.proxies import service_part
from relaytun.frp.signin import put_token
from relaytun.frp.table import Table
from relaytun.frp.visitors import connect_part

_CONTROL_PORT = 7000
_ANY = ("", "0.0.0.0", "::")
_MOST_SERVICES = 256
_LONGEST_HEARTBEAT = 40
_KNOWN = frozenset(names.CLIENT.values()) | {
    "auth.tokenSource",
    "clientID",
    "proxies",
    "visitors",
}


def client_parts(
    table: Table, included: Sequence[Table], notes: Notes, *, legacy: bool
) -> list[Part]:
    """
    Make a client's sections.

    @param included: the tables of the files that this one includes: their proxies and
        visitors are taken and nothing else, as frp does.
    @raise ConfigError: a value is wrong for frp too.
    """
    client = Part("client", "")
    user = table.text("user")
    _server(client, table, notes)
    put_token(client, table, notes)
    _identity(client, table, user, notes)
    _transport(client, table, notes)
    started = table.words("start")
    table.value("includes")
    parts = [client]
    for kind, style, made in (
        ("proxies", names.PROXY, service_part),
        ("visitors", names.VISITOR, connect_part),
    ):
        spelling = names.spelling(style) if legacy else {}
        for each in (table, *included):
            parts += _offered(each, kind, spelling, made, user, started, notes)
    _unique(parts, notes)
    if sum(part.kind == "service" for part in parts) > _MOST_SERVICES:
        notes.add(
            "", "", f"a client offers at most {_MOST_SERVICES} services: run several, divide them"
        )
    for each in (table, *included):
        each.finish(notes, _KNOWN, reasons.CLIENT, "a client")
    return parts


def _server(client: Part, table: Table, notes: Notes) -> None:
    host = table.text("serverAddr")
    if host in _ANY:
        notes.add("", table.spelled("serverAddr"), "none is given, which is this machine to frp")
        host = "127.0.0.1"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    port = table.number("serverPort") or _CONTROL_PORT
    try:
        host = values.bracketed(values.host(host))
        values.port(str(port))
    except ValueError as error:
        raise table.broken("serverAddr", str(error)) from None
    client.put("server", f"wss://{host}:{port}")
    client.comment("Better: put invite = ... in place of server and token, the line that the")
    client.comment("server keeps in <state-dir>/invite; it has the server's fingerprint.")
    notes.add(
        "",
        table.spelled("serverAddr"),
        "the server's certificate is verified here, which frp does not do by itself: paste the "
        "server's invite in place of server and token, or give fingerprint, unless the server "
        "has a certificate that the system's CAs vouch for",
    )


def _identity(client: Part, table: Table, user: str, notes: Notes) -> None:
    name = table.text("clientID")
    if not name and not user:
        notes.add("", table.spelled("user"), "none is given: write a client_id to be known by")
        return
    client_id = identifier(name or user, "client")
    client.put("client_id", client_id)
    if not name:
        notes.add(
            "",
            table.spelled("user"),
            "is the client_id now, and still stands before the names of services: clients that "
            "share a user need a client_id each",
        )
    elif user:
        notes.add(
            "",
            table.spelled("clientID"),
            "is the client_id now; user only stands before the names of services",
        )
    if client_id != (name or user):
        key = table.spelled("clientID" if name else "user")
        notes.add("", key, f"is no id here, so it is {client_id} now")


def _transport(client: Part, table: Table, notes: Notes) -> None:
    key = "transport.protocol"
    protocol = table.text(key).lower()
    if protocol in ("websocket", "wss"):
        client.put("transport", "ws")
        notes.add(
            "",
            table.spelled(key),
            "behind a reverse proxy, the path is /relaytun and not /~!frp: change it there, or set "
            "ws_path for client and server",
        )
    elif protocol in ("kcp", "quic"):
        why = f"there is no {protocol.upper()} to the server: links go over TCP or WebSocket"
        notes.add("", table.spelled(key), why)
    elif protocol not in ("", "tcp"):
        raise table.broken(key, "frp has tcp, kcp, quic, websocket and wss")
    proxy = table.text("transport.proxyURL")
    if proxy.lower().startswith("http://"):
        client.put("proxy", proxy)
    elif proxy:
        why = "only an HTTP proxy, http://HOST:PORT, can be passed: left out"
        notes.add("", table.spelled("transport.proxyURL"), why)
    interval = table.number("transport.heartbeatInterval")
    if 0 < interval <= _LONGEST_HEARTBEAT:
        client.put("heartbeat_interval", f"{interval}s")
    elif interval:
        key = table.spelled("transport.heartbeatInterval")
        notes.add("", key, "left out: heartbeats are never off, and the server waits 45 s for one")


def _offered(
    table: Table,
    kind: str,
    spelling: Mapping[str, str],
    made: Callable[[Table, str, Notes], Part | None],
    user: str,
    started: Sequence[str],
    notes: Notes,
) -> list[Part]:
    """
    What becomes of all proxies, or of all visitors.

    @param spelling: how an older file writes the keys of one.
    @param made: makes the section of one, if it has any.
    """
    parts = []
    for tree in table.tables(kind):
        each = _named(table, tree, spelling, kind)
        if _runs(each, started, notes):
            part = made(each, user, notes)
            parts += [] if part is None else [part]
    return parts


def _named(
    table: Table, tree: Mapping[str, object], spelling: Mapping[str, str], kind: str
) -> Table:
    nameless = Table(table.file, kind, tree, {})
    name = nameless.text("name")
    if not name:
        raise ConfigError([f"{table.file}: {kind}: one of them has no name"])
    named = Table(table.file, name, tree, spelling)
    named.value("name")
    return named


def _runs(table: Table, started: Sequence[str], notes: Notes) -> bool:
    """Tell whether frp would start a proxy or visitor."""
    if not table.switch("enabled", True):
        notes.add(table.place, "", "left out: it is not enabled")
        return False
    if started and table.place not in started:
        notes.add(table.place, "", "left out: start does not name it")
        return False
    return True


def _unique(parts: Sequence[Part], notes: Notes) -> None:
    """Give those of one kind different ids, and say so of each that had another's."""
    taken = {"service": Identifiers("service"), "connect": Identifiers("connect")}
    for part in parts:
        kind, colon, name = part.header.partition(":")
        if not colon:
            continue
        found = taken[kind].take(name)
        part.header = f"{kind}:{found}"
        if found != name:
            notes.add(part.place, "name", f"another {kind} has this id: it is {found} now")
