"""Why some of frp's keys have no counterpart here, by the dotted names of its TOML files."""

from __future__ import annotations

from collections.abc import Mapping

from relaytun.frp.table import Reason

_TRUE = frozenset({"true", "yes", "on", "1", ""})
_WORKING_CONNECTIONS = Reason(
    "nothing to set: a link carries all streams of a session, and raw mode keeps spare legs ready"
)
_KEEPALIVE = Reason("nothing to set: links ask for a sign of life every 5 s, and resume")
_QUIC = Reason("there is no QUIC to the server: links go over TCP or WebSocket")
_LOG = Reason(
    "the log goes to standard output, for journald or twistd --logfile; there is log_format"
)
_LOG_OFF = frozenset({"", "console", "info", "0", "false"})
_PLUGIN = Reason("client plugins have no counterpart")
_UDP_SIZE = Reason("nothing to set: there is no such limit to agree on", frozenset({"1500", "0"}))
_OIDC = Reason("there is no OpenID Connect: sign in by token, several with [user:NAME]")
_META = Reason("there is no metadata: hooks are told ids and names")
_SCOPES = Reason("nothing to set: the token, over TLS, is asked for at every sign-in")

_COMMON: Mapping[str, Reason] = {
    "auth.additionalScopes": _SCOPES,
    "auth.authenticateHeartbeats": _SCOPES,
    "auth.authenticateNewWorkConns": _SCOPES,
    "auth.oidc": _OIDC,
    "log": Reason(_LOG.text, _LOG_OFF),
    "log.maxDays": Reason(_LOG.text, frozenset({"0", "3", ""})),
    "log.way": Reason(_LOG.text, frozenset({"", "console", "file"})),
    "transport.tcpMux": Reason(_WORKING_CONNECTIONS.text, _TRUE),
    "transport.tcpMuxKeepaliveInterval": _KEEPALIVE,
    "transport.quic": _QUIC,
    "udpPacketSize": _UDP_SIZE,
    "version": Reason("nothing to set"),
}

SERVER: Mapping[str, Reason] = {
    **_COMMON,
    "bindUdpPort": Reason("nothing to set: the relay port is for UDP as well"),
    "kcpBindPort": Reason("there is no KCP to the server: links go over TCP or WebSocket"),
    "quicBindPort": _QUIC,
    "tcpmuxHTTPConnectPort": Reason(
        "there is no proxy by HTTP CONNECT: reach such services by relaytun connect"
    ),
    "tcpmuxPassthrough": Reason("goes with tcpmux, which has no counterpart"),
    "custom404Page": Reason("the pages for 404, 502 and 504 are the server's own"),
    "sshTunnelGateway": Reason("there is no gateway for plain ssh: run relaytun expose instead"),
    "webServer": Reason("there is no dashboard: see relaytun status, relaytun stats and metrics"),
    "transport.tcpKeepalive": _KEEPALIVE,
    "transport.maxPoolCount": Reason(_WORKING_CONNECTIONS.text, frozenset({"0", "5", ""})),
    "transport.tls.force": Reason(
        "nothing to set: without TLS there is only this machine, unless plaintext = yes",
        frozenset({"", "true", "false"}),
    ),
    "transport.tls.trustedCaFile": Reason(
        "clients are not known by certificates of a CA: they have a token, and identities of "
        "their own that are pinned"
    ),
    "transport.tls.serverName": Reason("nothing to set"),
    "detailedErrorsToClient": Reason("errors always say what to do", _TRUE),
    "userConnTimeout": Reason("nothing to set: a leg without its partner has 10 s"),
    "natholeAnalysisDataReserveHours": Reason("there is no such data"),
    "httpPlugins": Reason(
        "server plugins have no counterpart: [hooks] are told of events, and [user:NAME] limits "
        "who may do what"
    ),
}

CLIENT: Mapping[str, Reason] = {
    **_COMMON,
    "natHoleStunServer": Reason("nothing to set: there are no direct connections yet"),
    "dnsServer": Reason("names are looked up as the system is set up to"),
    "featureGates": Reason("there are no such switches"),
    "virtualNet": Reason("there is no virtual network: services are reached one by one"),
    "store": Reason("services are kept in the configuration file only: edit and reload it"),
    "metadatas": _META,
    "loginFailExit": Reason("a client tries again until it is let in, and says why it is not"),
    "webServer": Reason("there is no admin page: see relaytun status and relaytun reload"),
    "transport.wireProtocol": Reason("nothing to set", frozenset({"", "v1", "v2"})),
    "transport.dialServerTimeout": Reason("nothing to set", frozenset({"", "0", "10"})),
    "transport.dialServerKeepalive": _KEEPALIVE,
    "transport.connectServerLocalIP": Reason(
        "the system picks the address to dial from", frozenset({"", "0.0.0.0"})
    ),
    "transport.poolCount": _WORKING_CONNECTIONS,
    "transport.heartbeatTimeout": Reason("nothing to set: the server's heartbeat_timeout decides"),
    "transport.tls.enable": Reason("the connection to the server always has TLS here", _TRUE),
    "transport.tls.certFile": Reason("a client makes its own identity at the first start"),
    "transport.tls.keyFile": Reason("a client makes its own identity at the first start"),
    "transport.tls.trustedCaFile": Reason(
        "the server is known by the fingerprint in its invite, or by the system's CAs"
    ),
    "transport.tls.serverName": Reason(
        "a certificate is checked against the host in server, or by its fingerprint alone"
    ),
    "transport.tls.disableCustomTLSFirstByte": Reason(
        "nothing to set: there is no such byte", frozenset({"", "true", "false"})
    ),
}

_TRAFFIC: Mapping[str, Reason] = {
    "transport.useEncryption": Reason(
        "nothing to set: frp's was between its client and its server only, where the server "
        "reads all; a link is always encrypted from end to end"
    ),
    "secretKey": Reason(
        "there is no secret of a service, which frp's server knew: write allow = ID, ID where it "
        "is offered, which visitors prove by their identities"
    ),
    "natTraversal": Reason("nothing to set: there are no direct connections yet"),
}

PROXY: Mapping[str, Reason] = {
    **_TRAFFIC,
    "annotations": Reason("there is no dashboard to show them"),
    "metadatas": _META,
    "plugin": _PLUGIN,
    "transport.bandwidthLimitMode": Reason(
        "nothing to set: the server limits", frozenset({"", "client", "server"})
    ),
    "healthCheck.httpHeaders": Reason("a health check sends no headers of one's own"),
    "routeByHTTPUser": Reason(
        "requests are not routed by the name of a user: give the service a name or a path"
    ),
}

VISITOR: Mapping[str, Reason] = {
    **_TRAFFIC,
    "transport.useCompression": Reason(
        "nothing to set here: who offers the service says compression = zstd"
    ),
    "plugin": Reason("visitor plugins have no counterpart"),
    "protocol": Reason("nothing to set: there are no direct connections yet"),
    "keepTunnelOpen": Reason("nothing to set: a link stays"),
    "maxRetriesAnHour": Reason("nothing to set: a link finds a new path by itself"),
    "minRetryInterval": Reason("nothing to set: a link finds a new path by itself"),
    "fallbackTo": Reason("nothing to set: a link changes its path by itself"),
    "fallbackTimeoutMs": Reason("nothing to set: a link changes its path by itself"),
}

PLUGINS: Mapping[str, str] = {
    "unix_domain_socket": "services are reached by TCP: put socat in front of the socket",
    "http_proxy": "run a proxy such as tinyproxy, and offer its port",
    "socks5": "run a proxy such as microsocks, or ssh -D, and offer its port",
    "static_file": "run python3 -m http.server or nginx, and offer its port",
    "http2http": "offer the local address itself, with protocol = http and host_header_rewrite",
    "http2https": "offer a port of the service without TLS, or pass TLS through with "
    "custom_domains and protocol = tcp",
    "https2http": "offer the local address with protocol = http and custom_domains; the server "
    "ends TLS: [http] certificates or acme",
    "https2https": "pass TLS through: protocol = tcp and custom_domains, with the local address",
    "tls2raw": "let the service speak TLS itself; between the two clients a link is encrypted "
    "already",
    "virtual_net": "there is no virtual network: services are reached one by one",
}
"""What to do instead of each of frp's client plugins."""
