"""One-hop TCP forwarders: how each is started between a port and the service.

Every program keeps its defaults, apart from what would end idle streams or cap their number.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from .processes import Processes, free_port, require

_NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def direct(_: Processes, service: int) -> int:
    """No hop at all: what the machine and the load themselves cost."""
    return service


def _haproxy(run: Processes, service: int, option: str) -> int:
    port = free_port()
    # HAProxy refuses to start where its descriptors (two sockets, half a pipe) may not suffice.
    streams = min(60_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)
    config = run.write(
        "haproxy.cfg",
        f"""global
  maxconn {streams}
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  {option}
listen bench
  bind 127.0.0.1:{port}
  server service 127.0.0.1:{service}
""",
    )
    run.spawn("server", [require("haproxy"), "-db", "-f", config])
    return port


def haproxy(run: Processes, service: int) -> int:
    """HAProxy in TCP mode with one thread."""
    return _haproxy(run, service, "")


def haproxy_splice_auto(run: Processes, service: int) -> int:
    """The same with ``option splice-auto``, whose heuristic may well decide against it."""
    return _haproxy(run, service, "option splice-auto")


def haproxy_splice(run: Processes, service: int) -> int:
    """The same made to splice in both directions: HAProxy's own best."""
    return _haproxy(run, service, "option splice-request\n  option splice-response")


def nginx(run: Processes, service: int) -> int:
    """nginx stream with one worker."""
    port = free_port()
    module = f"load_module {_NGINX_STREAM};" if _NGINX_STREAM.exists() else ""
    config = run.write(
        "nginx.conf",
        f"""{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile 60000;
pid {run.folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 50000; }}
stream {{
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_pass 127.0.0.1:{service};
    proxy_timeout 1h;
  }}
}}
""",
    )
    run.spawn("server", [require("nginx"), "-e", "stderr", "-p", str(run.folder), "-c", config])
    return port


def socat(run: Processes, service: int) -> int:
    """socat, forking for each connection."""
    port = free_port()
    listen = f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=4096,nodelay"
    run.spawn("server", [require("socat"), listen, f"TCP4:127.0.0.1:{service},nodelay"])
    return port


def portforward(run: Processes, service: int) -> int:
    """Twisted's portforward on its epoll reactor."""
    port = free_port()
    script = str(Path(__file__).with_name("portforward.py"))
    run.spawn("server", [sys.executable, script, str(port), str(service)])
    return port
