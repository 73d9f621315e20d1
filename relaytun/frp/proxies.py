"""
One proxy of frp's -> a service of ours, or a remark why there is none.
"""

from __future__ import annotations

from relaytun.frp import names, reasons
from relaytun.frp.identifiers import identifier, named_part
from relaytun.frp.notes import Notes
from relaytun.frp.numbers import bandwidth
from relaytun.frp.parts import Part
from relaytun.frp.table import Table

_PROTOCOLS = {
    "tcp": "tcp",
    "udp": "udp",
    "http": "http",
    "https": "tcp",
    "stcp": "tcp",
    "sudp": "udp",
    "xtcp": "tcp",
}
_SECRET = ("stcp", "sudp", "xtcp")
_KNOWN = frozenset(names.PROXY.values()) | {
    "enabled",
    "requestHeaders.set",
    "responseHeaders.set",
}


def service_part(table: Table, user: str, notes: Notes) -> Part | None:
    """
    Make the service that a proxy becomes.

    @param user: frp's, which stands before the name.
    @return: L{None} if there is no such service here; why is in the remarks.
    @raise ConfigError: a value is wrong for frp too.
    """
    kind = table.text("type").lower() or "tcp"
    plugin = table.text("plugin.type")
    if kind == "tcpmux":
        why = "left out: there is no proxy by HTTP CONNECT; offer it as http or tcp"
        notes.add(table.place, "", why)
        return None
    if kind not in _PROTOCOLS:
        raise table.broken("type", f"frp has {', '.join(_PROTOCOLS)} and tcpmux")
    if plugin:
        instead = reasons.PLUGINS.get(plugin, "offer what the plugin did as a program's port")
        notes.add(
            table.place,
            table.spelled("plugin.type"),
            f"left out: plugins have no counterpart; {instead}",
        )
        return None
    port = table.number("localPort")
    if not port:
        notes.add(table.place, table.spelled("localPort"), "left out: it has no local port")
        return None
    name = f"{user}.{table.place}" if user else table.place
    part = named_part("service", name, table.place, notes)
    part.put("protocol", _PROTOCOLS[kind])
    part.put("local_host", table.text("localIP") or "127.0.0.1")
    part.put("local_port", str(port))
    _exposure(part, kind, table, notes)
    _transport(part, kind, table, notes)
    _health(part, _PROTOCOLS[kind], table, notes)
    table.finish(notes, _KNOWN, reasons.PROXY, f"a proxy of type {kind}")
    return part


def _exposure(part: Part, kind: str, table: Table, notes: Notes) -> None:
    if kind in ("tcp", "udp"):
        part.put("remote_port", str(table.number("remotePort")))
    elif kind in _SECRET:
        _visitors(part, kind, table, notes)
        return
    else:
        _host_names(part, kind, table, notes)
    if kind == "udp":
        return
    part.put("group", table.text("loadBalancer.group"))
    part.put("group_key", table.text("loadBalancer.groupKey"))


def _host_names(part: Part, kind: str, table: Table, notes: Notes) -> None:
    part.put("custom_domains", ", ".join(table.words("customDomains")))
    part.put("subdomain", table.text("subdomain"))
    if not {"custom_domains", "subdomain"} & set(part.keys):
        key = table.spelled("customDomains")
        notes.add(table.place, key, "there is no host name: it is not public until it has one")
    if kind == "https":
        part.comment("TLS is passed through to the service, by the host name in it.")
        return
    part.put("locations", ", ".join(table.words("locations")))
    part.put("http_user", table.text("httpUser"))
    part.put("http_password", table.text("httpPassword"))
    part.put("host_header_rewrite", table.text("hostHeaderRewrite"))
    for key, ours in (
        ("requestHeaders", "request_headers"),
        ("responseHeaders", "response_headers"),
    ):
        headers = table.mapping(f"{key}.set")
        part.put(ours, *(f"{name}: {value}" for name, value in headers.items()))


def _visitors(part: Part, kind: str, table: Table, notes: Notes) -> None:
    """Say who may visit a service that has no public name."""
    users = table.words("allowUsers")
    if kind == "xtcp":
        notes.add(
            table.place,
            table.spelled("type"),
            "every service goes directly from client to client if it can, and through the server "
            "if not, encrypted from end to end",
        )
    if users and "*" not in users:
        part.put("allow", ", ".join(dict.fromkeys(identifier(user, "client") for user in users)))
        notes.add(
            table.place,
            table.spelled("allowUsers"),
            "is allow now, which holds the client_ids of visitors: see that they are their users",
        )
        return
    part.comment("Anyone whom the server lets in may visit this. To keep others out:")
    part.comment("allow = CLIENT-ID, CLIENT-ID")
    why = (
        "everyone whom the server lets in may visit"
        if users
        else "frp lets in those of the same user who have the secret, here it is everyone whom "
        "the server lets in"
    )
    notes.add(table.place, table.spelled("allowUsers"), f"{why}: write allow = ID, ID to choose")


def _transport(part: Part, kind: str, table: Table, notes: Notes) -> None:
    if table.switch("transport.useCompression"):
        if _PROTOCOLS[kind] == "udp":
            key = table.spelled("transport.useCompression")
            notes.add(table.place, key, "left out: datagrams are not compressed")
        else:
            part.put("compression", "zstd")
    key = "transport.bandwidthLimit"
    limit = table.text(key)
    try:
        part.put("bandwidth", bandwidth(limit) if limit else "")
    except ValueError as error:
        raise table.broken(key, str(error)) from None
    if limit:
        notes.add(
            table.place,
            table.spelled(key),
            "frp counts up and down together against one limit, here each way has this much",
        )
    key = "transport.proxyProtocolVersion"
    version = table.text(key)
    if version not in ("", "v1", "v2"):
        raise table.broken(key, "frp has v1 and v2")
    if version and (kind == "udp" or kind in _SECRET):
        why = "left out: the service is told of visitors from public TCP ports and host names only"
        notes.add(table.place, table.spelled(key), why)
    else:
        part.put("proxy_protocol", version)


def _health(part: Part, protocol: str, table: Table, notes: Notes) -> None:
    kind = table.text("healthCheck.type")
    if not kind:
        return
    if protocol == "udp":
        key = table.spelled("healthCheck.type")
        notes.add(table.place, key, "left out: nothing answers to a datagram for sure")
        return
    if kind not in ("tcp", "http"):
        raise table.broken("healthCheck.type", "frp has tcp and http")
    path = table.text("healthCheck.path")
    if kind == "http" and not path:
        raise table.broken("healthCheck.path", "missing: frp asks for this page")
    if kind == "http":
        kind = f"http {path if path.startswith('/') else f'/{path}'}"
    part.put("health_check", kind)
    for key, ours, default, unit in (
        ("intervalSeconds", "health_check_interval", 10, "s"),
        ("timeoutSeconds", "health_check_timeout", 3, "s"),
        ("maxFailed", "health_check_failures", 1, ""),
    ):
        number = table.number(f"healthCheck.{key}")
        part.put(ours, f"{number if number > 0 else default}{unit}")
