"""
The names of frp's keys: what an INI file calls each, and what TOML, YAML and JSON do.

Names only: what becomes of a key is decided in C{server}, C{client}, C{proxies} and
C{visitors}.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMMON: Mapping[str, str] = {
    "authentication_method": "auth.method",
    "authenticate_heartbeats": "auth.authenticateHeartbeats",
    "authenticate_new_work_conns": "auth.authenticateNewWorkConns",
    "token": "auth.token",
    # So were the keys called before version 0.10.
    "privilege_token": "auth.token",
    "oidc_audience": "auth.oidc.audience",
    "log_file": "log.to",
    "log_way": "log.way",
    "log_level": "log.level",
    "log_max_days": "log.maxDays",
    "disable_log_color": "log.disablePrintColor",
    "assets_dir": "webServer.assetsDir",
    "pprof_enable": "webServer.pprofEnable",
    "tcp_mux": "transport.tcpMux",
    "tcp_mux_keepalive_interval": "transport.tcpMuxKeepaliveInterval",
    "quic_keepalive_period": "transport.quic.keepalivePeriod",
    "quic_max_idle_timeout": "transport.quic.maxIdleTimeout",
    "quic_max_incoming_streams": "transport.quic.maxIncomingStreams",
    "tls_cert_file": "transport.tls.certFile",
    "tls_key_file": "transport.tls.keyFile",
    "tls_trusted_ca_file": "transport.tls.trustedCaFile",
    "heartbeat_timeout": "transport.heartbeatTimeout",
    "udp_packet_size": "udpPacketSize",
}

SERVER: Mapping[str, str] = {
    **_COMMON,
    "oidc_issuer": "auth.oidc.issuer",
    "oidc_skip_expiry_check": "auth.oidc.skipExpiryCheck",
    "oidc_skip_issuer_check": "auth.oidc.skipIssuerCheck",
    "bind_addr": "bindAddr",
    "bind_port": "bindPort",
    "bind_udp_port": "bindUdpPort",
    "kcp_bind_port": "kcpBindPort",
    "quic_bind_port": "quicBindPort",
    "proxy_bind_addr": "proxyBindAddr",
    "vhost_http_port": "vhostHTTPPort",
    "vhost_https_port": "vhostHTTPSPort",
    "vhost_http_timeout": "vhostHTTPTimeout",
    "tcpmux_httpconnect_port": "tcpmuxHTTPConnectPort",
    "tcpmux_passthrough": "tcpmuxPassthrough",
    "dashboard_addr": "webServer.addr",
    "dashboard_port": "webServer.port",
    "dashboard_user": "webServer.user",
    "dashboard_pwd": "webServer.password",
    "dashboard_tls_mode": "webServer.tls.mode",
    "dashboard_tls_cert_file": "webServer.tls.certFile",
    "dashboard_tls_key_file": "webServer.tls.keyFile",
    "enable_prometheus": "enablePrometheus",
    "detailed_errors_to_client": "detailedErrorsToClient",
    "subdomain_host": "subDomainHost",
    "tcp_keepalive": "transport.tcpKeepalive",
    "custom_404_page": "custom404Page",
    "allow_ports": "allowPorts",
    "privilege_allow_ports": "allowPorts",
    "max_pool_count": "transport.maxPoolCount",
    "max_ports_per_client": "maxPortsPerClient",
    "tls_only": "transport.tls.force",
    "user_conn_timeout": "userConnTimeout",
    "nat_hole_analysis_data_reserve_hours": "natholeAnalysisDataReserveHours",
}

CLIENT: Mapping[str, str] = {
    **_COMMON,
    "oidc_client_id": "auth.oidc.clientID",
    "oidc_client_secret": "auth.oidc.clientSecret",
    "oidc_scope": "auth.oidc.scope",
    "oidc_token_endpoint_url": "auth.oidc.tokenEndpointURL",
    "server_addr": "serverAddr",
    "server_port": "serverPort",
    "nat_hole_stun_server": "natHoleStunServer",
    "dial_server_timeout": "transport.dialServerTimeout",
    "dial_server_keepalive": "transport.dialServerKeepalive",
    "connect_server_local_ip": "transport.connectServerLocalIP",
    "http_proxy": "transport.proxyURL",
    "admin_addr": "webServer.addr",
    "admin_port": "webServer.port",
    "admin_user": "webServer.user",
    "admin_pwd": "webServer.password",
    "pool_count": "transport.poolCount",
    "user": "user",
    "dns_server": "dnsServer",
    "login_fail_exit": "loginFailExit",
    "start": "start",
    "protocol": "transport.protocol",
    "tls_enable": "transport.tls.enable",
    "tls_server_name": "transport.tls.serverName",
    "disable_custom_tls_first_byte": "transport.tls.disableCustomTLSFirstByte",
    "heartbeat_interval": "transport.heartbeatInterval",
    "includes": "includes",
}

_TRAFFIC: Mapping[str, str] = {
    "type": "type",
    "name": "name",
    "role": "role",
    "sk": "secretKey",
    "use_encryption": "transport.useEncryption",
    "use_compression": "transport.useCompression",
}

PROXY: Mapping[str, str] = {
    **_TRAFFIC,
    "local_ip": "localIP",
    "local_port": "localPort",
    "remote_port": "remotePort",
    "custom_domains": "customDomains",
    "subdomain": "subdomain",
    "locations": "locations",
    "http_user": "httpUser",
    "http_pwd": "httpPassword",
    "host_header_rewrite": "hostHeaderRewrite",
    "route_by_http_user": "routeByHTTPUser",
    "multiplexer": "multiplexer",
    "group": "loadBalancer.group",
    "group_key": "loadBalancer.groupKey",
    "proxy_protocol_version": "transport.proxyProtocolVersion",
    "bandwidth_limit": "transport.bandwidthLimit",
    "bandwidth_limit_mode": "transport.bandwidthLimitMode",
    "health_check_type": "healthCheck.type",
    "health_check_url": "healthCheck.path",
    "health_check_timeout_s": "healthCheck.timeoutSeconds",
    "health_check_max_failed": "healthCheck.maxFailed",
    "health_check_interval_s": "healthCheck.intervalSeconds",
    "plugin": "plugin.type",
    "allow_users": "allowUsers",
}

VISITOR: Mapping[str, str] = {
    **_TRAFFIC,
    "server_user": "serverUser",
    "server_name": "serverName",
    "bind_addr": "bindAddr",
    "bind_port": "bindPort",
    "protocol": "protocol",
    "keep_tunnel_open": "keepTunnelOpen",
    "max_retries_an_hour": "maxRetriesAnHour",
    "min_retry_interval": "minRetryInterval",
    "fallback_to": "fallbackTo",
    "fallback_timeout_ms": "fallbackTimeoutMs",
}

SERVER_PREFIXES: Mapping[str, str] = {}
CLIENT_PREFIXES: Mapping[str, str] = {
    "meta_": "metadatas",
    "oidc_additional_": "auth.oidc.additionalEndpointParams",
}
PROXY_PREFIXES: Mapping[str, str] = {
    "header_": "requestHeaders.set",
    "meta_": "metadatas",
    "plugin_": "plugin",
}
"""What the beginnings of an INI file's keys say, and the table that each is in TOML."""


_WHOLE = {
    "metadatas": "meta_*",
    "auth.oidc.additionalEndpointParams": "oidc_additional_*",
    "requestHeaders.set": "header_*",
    "plugin": "plugin_*",
    "httpPlugins": "[plugin.*]",
}


def spelling(names: Mapping[str, str]) -> dict[str, str]:
    """Tell how an INI file writes each dotted key: the newest way, which stands first."""
    written = dict(_WHOLE)
    for name, key in names.items():
        written.setdefault(key, name)
    return written
