"""Files of frp's, written for these tests, and the names of keys to make others of."""

from __future__ import annotations

from relaytun.frp import names

CLIENT_KEYS = tuple(
    sorted(
        {*names.CLIENT.values(), "clientID", "metadatas", "auth.tokenSource.type"} - {"includes"}
    )
)
SERVER_KEYS = tuple(
    sorted({*names.SERVER.values(), "auth.tokenSource.type", "auth.tokenSource.file.path"})
)
PROXY_KEYS = tuple(
    sorted(
        {*names.PROXY.values(), "requestHeaders.set", "responseHeaders.set", "enabled"}
        - {"role", "plugin.type", "name", "type", "localPort"}
    )
)
VISITOR_KEYS = tuple(
    sorted({*names.VISITOR.values(), "enabled"} - {"name", "type", "serverName", "bindPort"})
)
INI_KEYS = (
    *sorted({*names.CLIENT, *names.PROXY, *names.VISITOR} - {"includes"}),
    "header_X-A",
    "meta_a",
    "[web]",
    "[ssh]",
    "[range:t]",
    "[v]",
)

_INI = """\
# a client of the first generation
[common]
server_addr = frp.example.com
server_port = 7000
token = {{ .Envs.TOKEN }}
user = ann

[ssh]
type = tcp
local_ip = 127.0.0.1
local_port = 22
remote_port = 6000
bandwidth_limit = 1MB
use_encryption

[web]
type = http
local_port = 8080
custom_domains = app.example.com
http_user = u
http_pwd = p
header_X-From = frp

[secret]
type = stcp
local_port = 22
sk = s3cret
allow_users = *

[range:t]
type = tcp
local_port = 6001,6003
remote_port = 6001-6002

[far]
role = visitor
type = stcp
server_name = far
sk = s3cret
bind_port = 9000
"""

_TOML = """\
# a client of the second generation
serverAddr = "frp.example.com"
serverPort = 7000
auth.token = "{{ .Envs.TOKEN }}"
user = "ann"

[[proxies]]
name = "ssh"
type = "tcp"
localIP = "127.0.0.1"
localPort = 22
remotePort = 6000
transport.bandwidthLimit = "1MB"
transport.useEncryption = true

[[proxies]]
name = "web"
type = "http"
localPort = 8080
customDomains = ["app.example.com"]
httpUser = "u"
httpPassword = "p"
requestHeaders.set.X-From = "frp"

[[proxies]]
name = "secret"
type = "stcp"
localPort = 22
secretKey = "s3cret"
allowUsers = ["*"]

{{- range $i, $v := parseNumberRangePair "6001,6003" "6001-6002" }}

[[proxies]]
name = "t_{{ $i }}"
type = "tcp"
localPort = {{ $v.First }}
remotePort = {{ $v.Second }}
{{- end }}

[[visitors]]
name = "far"
type = "stcp"
serverName = "far"
secretKey = "s3cret"
bindPort = 9000
"""

_YAML = """\
serverAddr: frp.example.com
serverPort: 7000
auth:
  token: "{{ .Envs.TOKEN }}"
user: ann
.port: &port
  type: tcp
proxies:
- name: ssh
  <<: *port
  localIP: 127.0.0.1
  localPort: 22
  remotePort: 6000
  transport: {bandwidthLimit: 1MB, useEncryption: true}
- name: web
  type: http
  localPort: 8080
  customDomains: [app.example.com]
  httpUser: u
  httpPassword: p
  requestHeaders: {set: {X-From: frp}}
- {name: secret, type: stcp, localPort: 22, secretKey: s3cret, allowUsers: ["*"]}
- {name: t_0, <<: *port, localPort: 6001, remotePort: 6001}
- {name: t_1, <<: *port, localPort: 6003, remotePort: 6002}
visitors:
- {name: far, type: stcp, serverName: far, secretKey: s3cret, bindPort: 9000}
"""

_JSON = """\
{"serverAddr": "frp.example.com", "serverPort": 7000, "user": "ann",
 "auth": {"token": "{{ .Envs.TOKEN }}"},
 "proxies": [
  {"name": "ssh", "type": "tcp", "localPort": 22, "remotePort": 6000,
   "transport": {"bandwidthLimit": "1MB", "useEncryption": true}},
  {"name": "web", "type": "http", "localPort": 8080, "customDomains": ["app.example.com"],
   "httpUser": "u", "httpPassword": "p", "requestHeaders": {"set": {"X-From": "frp"}}},
  {"name": "secret", "type": "stcp", "localPort": 22, "secretKey": "s3cret", "allowUsers": ["*"]},
  {"name": "t_0", "type": "tcp", "localPort": 6001, "remotePort": 6001},
  {"name": "t_1", "type": "tcp", "localPort": 6003, "remotePort": 6002}],
 "visitors": [
  {"name": "far", "type": "stcp", "serverName": "far", "secretKey": "s3cret", "bindPort": 9000}]}
"""

CLIENTS = {"frpc.ini": _INI, "frpc.toml": _TOML, "frpc.yaml": _YAML, "frpc.json": _JSON}

SERVERS = {
    "frps.ini": """\
[common]
bind_port = 7000
token = {{ .Envs.TOKEN }}
allow_ports = 6000-6010,7001
vhost_http_port = 80
vhost_https_port = 443
subdomain_host = frp.example.com
""",
    "frps.toml": """\
bindPort = 7000
auth.token = "{{ .Envs.TOKEN }}"
allowPorts = [{ start = 6000, end = 6010 }, { single = 7001 }]
vhostHTTPPort = 80
vhostHTTPSPort = 443
subDomainHost = "frp.example.com"
""",
}
