"""
The names of all sections and keys, in the spelling of an INI file.

What their values mean is in C{server} and C{client} and in what those are made of.
"""

from __future__ import annotations

from collections.abc import Mapping

SERVER_HOOKS = (
    "client_online",
    "client_offline",
    "session_opened",
    "session_closed",
    "service_online",
    "service_offline",
)
"""What a server tells its hooks of."""

CLIENT_HOOKS = (
    "connected",
    "disconnected",
    "session_opened",
    "session_closed",
    "service_online",
    "service_offline",
)
"""What a client tells its hooks of."""

PUBLIC_PLACES = ("remote_port", "custom_domains", "subdomain")
"""The keys that open a service for the public; one of them is there if it is public."""

HTTP_ONLY = (
    "locations",
    "host_header_rewrite",
    "request_headers",
    "response_headers",
    "http_user",
    "http_password",
    "http_password_file",
)
"""The keys of a service of which each HTTP request is read."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "server": (
        "host",
        "control_port",
        "relay_port",
        "reflector_port",
        "reflector_address",
        "public_host",
        "ws_path",
        "state_dir",
        "token",
        "token_file",
        "session_timeout",
        "heartbeat_interval",
        "heartbeat_timeout",
        "drain_timeout",
        "max_clients",
        "max_sessions",
        "max_bytes_per_session",
        "max_ports_per_client",
        "max_connections_per_address",
        "allow_networks",
        "deny_networks",
        "proxy_protocol_from",
        "metrics_port",
        "log_format",
        "plaintext",
        "certificate",
        "key",
    ),
    "public": ("allow_ports",),
    "http": (
        "vhost_http_port",
        "vhost_https_port",
        "subdomain_host",
        "certificates",
        "acme",
        "acme_email",
        "acme_ca",
        "response_timeout",
    ),
    "user": (
        "token",
        "token_file",
        "client_ids",
        "ports",
        "domains",
        "visit",
        "bandwidth",
        "bandwidth_up",
        "bandwidth_down",
        "quota",
    ),
    "hooks": tuple(dict.fromkeys((*SERVER_HOOKS, *CLIENT_HOOKS))),
    "client": (
        "invite",
        "invite_file",
        "server",
        "servers",
        "token",
        "token_file",
        "fingerprint",
        "client_id",
        "state_dir",
        "auto_reconnect",
        "reconnect_interval",
        "heartbeat_interval",
        "resume_timeout",
        "drain_timeout",
        "transport",
        "ws_path",
        "proxy",
        "direct",
        "hard_nat",
        "log_format",
    ),
    "service": (
        "protocol",
        "local_host",
        "local_port",
        "description",
        "allow",
        "mode",
        "compression",
        "bandwidth",
        "bandwidth_up",
        "bandwidth_down",
        "health_check",
        "health_check_interval",
        "health_check_timeout",
        "health_check_failures",
        *PUBLIC_PLACES,
        *HTTP_ONLY,
        "proxy_protocol",
        "group",
        "group_key",
        "balance",
    ),
    "connect": ("target", "service", "local_host", "local_port", "peer_fingerprint", "mode"),
}
"""The keys of each kind of section."""

SERVER_KINDS = frozenset({"server", "public", "http", "user"})
CLIENT_KINDS = frozenset({"client", "service", "connect"})
NAME_KEYS = {"service": "id", "connect": "name", "user": "name"}
"""The kinds of section of which there are many, and what tells two of them apart."""
