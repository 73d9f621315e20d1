"""frp, in the configurations that have something to say about ours.

Its defaults multiplex all streams over one TLS connection from frpc to frps (``tcpMux`` and
``tls.enable`` are on, ``useEncryption`` is off): frps itself, the public process, sees plain text.
The ``stcp`` proxy adds a visitor, which is the topology that relaytun has.
"""

from __future__ import annotations

import secrets

from .processes import Processes, free_port, require
from .web import HOST

_NO_MUX = "transport.tcpMux = false\n"
_NO_TLS = "transport.tls.enable = false\n"


def plain(run: Processes, service: int) -> int:
    """Without multiplexing and TLS, its nearest to raw mode: two hops."""
    return _public(run, "tcp", service, _NO_MUX, _NO_MUX + _NO_TLS)


def default(run: Processes, service: int) -> int:
    """With its defaults (multiplexed, TLS): two hops."""
    return _public(run, "tcp", service)


def plain_http(run: Processes, service: int) -> int:
    """A host name without multiplexing and TLS."""
    return _named(run, service, _NO_MUX, _NO_MUX + _NO_TLS)


def default_http(run: Processes, service: int) -> int:
    """A host name with frp's defaults."""
    return _named(run, service)


def plain_udp(run: Processes, service: int) -> int:
    """A public UDP port without multiplexing and TLS: datagrams travel over TCP as JSON."""
    return _public(run, "udp", service, _NO_MUX, _NO_MUX + _NO_TLS)


def default_udp(run: Processes, service: int) -> int:
    """A public UDP port with frp's defaults: datagrams travel over TLS as JSON."""
    return _public(run, "udp", service)


def stcp_plain(run: Processes, service: int) -> int:
    """``stcp`` with a visitor, without multiplexing and TLS: three hops, as relaytun has."""
    return _visited(run, service, _NO_MUX, _NO_MUX + _NO_TLS)


def stcp_default(run: Processes, service: int) -> int:
    """``stcp`` with a visitor and frp's defaults: three hops, TLS on each leg, not end to end."""
    return _visited(run, service)


def _server(run: Processes, extra: str) -> str:
    """Start frps; the lines that a frpc needs to reach it."""
    control, token = free_port(), secrets.token_hex(16)
    auth = f'auth.token = "{token}"\nlog.level = "error"\n'
    config = run.write("frps.toml", f'bindAddr = "127.0.0.1"\nbindPort = {control}\n{auth}{extra}')
    run.spawn("server", [require("frps"), "-c", config])
    run.wait_listening(control)
    return f'serverAddr = "127.0.0.1"\nserverPort = {control}\n{auth}'


def _client(run: Processes, role: str, text: str) -> None:
    run.spawn(role, [require("frpc"), "-c", run.write(f"{role}.toml", text)])


def _public(run: Processes, protocol: str, service: int, server: str = "", client: str = "") -> int:
    port = free_port(protocol)
    proxy = f"""{client}
[[proxies]]
name = "bench"
type = "{protocol}"
localIP = "127.0.0.1"
localPort = {service}
remotePort = {port}
"""
    _client(run, "provider", _server(run, server) + proxy)
    return port


def _named(run: Processes, service: int, server: str = "", client: str = "") -> int:
    port = free_port()
    proxy = f"""{client}
[[proxies]]
name = "bench"
type = "http"
localIP = "127.0.0.1"
localPort = {service}
customDomains = ["{HOST}"]
"""
    _client(run, "provider", _server(run, f"vhostHTTPPort = {port}\n{server}") + proxy)
    return port


def _visited(run: Processes, service: int, server: str = "", client: str = "") -> int:
    port, secret = free_port(), secrets.token_hex(16)
    common = _server(run, server) + client
    provider = f"""
[[proxies]]
name = "bench"
type = "stcp"
secretKey = "{secret}"
localIP = "127.0.0.1"
localPort = {service}
"""
    visitor = f"""
[[visitors]]
name = "visitor"
type = "stcp"
serverName = "bench"
secretKey = "{secret}"
bindAddr = "127.0.0.1"
bindPort = {port}
"""
    _client(run, "provider", common + provider)
    _client(run, "visitor", common + visitor)
    return port
