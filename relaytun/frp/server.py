"""
The tables of a frps file -> the sections of our server.ini.

Decides what each key means here; whether a value is good is for L{relaytun.config}.
"""

from __future__ import annotations

import ipaddress

from relaytun.frp import names, reasons
from relaytun.frp.notes import Notes
from relaytun.frp.numbers import ranges
from relaytun.frp.parts import Part
from relaytun.frp.signin import put_token
from relaytun.frp.table import Table

_CONTROL_PORT = 7000
_ANYWHERE = ("", "0.0.0.0", "::")
_KNOWN = frozenset(names.SERVER.values()) | {"auth.tokenSource"}


def server_parts(table: Table, notes: Notes) -> list[Part]:
    """
    Make a server's sections.

    @raise ConfigError: a value is wrong for frp too.
    """
    server = Part("server", "")
    public = Part("public", "")
    http = Part("http", "")
    host = table.text("bindAddr")
    proxy_host = table.text("proxyBindAddr") or host
    server.put("host", "" if host == "0.0.0.0" else host)
    _ports(server, table, notes)
    if not put_token(server, table, notes):
        notes.add(
            "",
            table.spelled("auth.token"),
            "frp lets everyone in who has no token to show; a token is made here at the first "
            "start, and is part of the invite",
        )
    _certificate(server, table, notes)
    _heartbeat(server, table, notes)
    _limits(server, public, table, notes)
    _pages(server, table, notes)
    _names(http, table, proxy_host, host, notes)
    table.finish(notes, _KNOWN, reasons.SERVER, "a server")
    return [part for part in (server, public, http) if part.keys or part is server]


def _ports(server: Part, table: Table, notes: Notes) -> None:
    control = table.number("bindPort") or _CONTROL_PORT
    if not 0 < control < 65536:
        raise table.broken("bindPort", "not a port")
    others = {table.number(key) for key in ("vhostHTTPPort", "vhostHTTPSPort", "webServer.port")}
    nearby = [*range(control + 1, control + 5), *range(control - 1, control - 5, -1)]
    relay = next(port for port in nearby if 0 < port < 65536 and port not in others)
    server.put("control_port", str(control))
    server.put("relay_port", str(relay))
    notes.add(
        "",
        table.spelled("bindPort"),
        f"frp has one port for all, we have two: open port {relay} (TCP and UDP) in the firewall "
        f"as well, or let clients have transport = ws, for which port {control} is enough",
    )


def _certificate(server: Part, table: Table, notes: Notes) -> None:
    certificate, key = table.text("transport.tls.certFile"), table.text("transport.tls.keyFile")
    if certificate and key:
        server.put("certificate", certificate)
        server.put("key", key)
    elif certificate or key:
        notes.add("", table.spelled("transport.tls.certFile"), "left out: goes with its key only")


def _heartbeat(server: Part, table: Table, notes: Notes) -> None:
    timeout = table.number("transport.heartbeatTimeout")
    if timeout >= 3:
        server.put("heartbeat_timeout", f"{timeout}s")
        if timeout <= 15:
            server.put("heartbeat_interval", f"{timeout // 3}s")
    elif timeout:
        key = table.spelled("transport.heartbeatTimeout")
        notes.add("", key, "left out: heartbeats are never off here")


def _limits(server: Part, public: Part, table: Table, notes: Notes) -> None:
    most = table.number("maxPortsPerClient")
    if most > 0:
        server.put("max_ports_per_client", str(most))
    allowed = _allowed(table)
    if not allowed:
        notes.add(
            "",
            table.spelled("allowPorts"),
            "frp opens any port that a client asks for, so allow_ports is all of them: narrow it",
        )
    public.put("allow_ports", allowed or "1-65535")


def _allowed(table: Table) -> str:
    value = table.value("allowPorts")
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        try:
            found = ranges(value)
        except ValueError as error:
            raise table.broken("allowPorts", str(error)) from None
    else:
        found = []
        for each in table.tables("allowPorts"):
            one = Table(table.file, "allowPorts", each, {})
            single = one.number("single")
            found.append(
                (single, single) if single > 0 else (one.number("start"), one.number("end"))
            )
    return ", ".join(str(one) if one == last else f"{one}-{last}" for one, last in found)


def _pages(server: Part, table: Table, notes: Notes) -> None:
    port = table.number("webServer.port")
    if port <= 0:
        return
    server.put("metrics_port", f"tcp:{port}:interface=127.0.0.1")
    table.switch("enablePrometheus")
    notes.add(
        "",
        table.spelled("webServer.port"),
        "there is no dashboard: this port has /metrics and /healthz now, without a password and "
        "so for this machine only; see relaytun status, clients and stats for the rest",
    )


def _names(http: Part, table: Table, proxy_host: str, host: str, notes: Notes) -> None:
    apart = proxy_host != host and (proxy_host or "0.0.0.0") != (host or "0.0.0.0")
    for key, ours in (("vhostHTTPPort", "vhost_http_port"), ("vhostHTTPSPort", "vhost_https_port")):
        port = table.number(key)
        if port:
            elsewhere = apart and _is_ipv4(proxy_host) and port != table.number("bindPort")
            http.put(ours, f"tcp:{port}:interface={proxy_host}" if elsewhere else str(port))
    if apart:
        notes.add(
            "",
            table.spelled("proxyBindAddr"),
            "public ports listen at the server's host: only host names can be elsewhere, by an "
            "endpoint description in [http]",
        )
    http.put("subdomain_host", table.text("subDomainHost"))
    timeout = table.number("vhostHTTPTimeout")
    if timeout > 0:
        http.put("response_timeout", f"{timeout}s")


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
