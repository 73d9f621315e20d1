"""Small HTTP requests through a host name of the server: nginx behind it, wrk in front.

The server's processes are on one core: what counts is what it does with that.
"""

from __future__ import annotations

import os
import re
import subprocess

from . import proc
from .processes import Processes, RunFailed, find, listens, poll_until, require

HOST = "bench.test"
CONNECTIONS = 32
_LONGEST = 30.0

_NGINX = """daemon off; worker_processes 1; master_process off; pid {folder}/nginx.pid;
error_log stderr; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; server {{
listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{body}"; }} }} }}
"""
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def missing() -> list[str]:
    """The programs that are needed and not there."""
    return [program for program in ("nginx", "wrk", "curl") if find(program) is None]


def service(run: Processes, port: int) -> None:
    """A web server with a page of 100 bytes."""
    text = _NGINX.format(folder=run.folder, port=port, body="x" * 100)
    config = run.write("nginx.conf", text)
    run.spawn("service", [require("nginx"), "-p", str(run.folder), "-c", config])
    poll_until(lambda: listens(port), 10.0, "nginx")


def await_answer(port: int) -> None:
    """Wait until a request comes back, all the way from the service."""

    def answers() -> bool:
        command = [require("curl"), "-sf", "-m2", "-o/dev/null", "-H", f"Host: {HOST}"]
        return subprocess.run([*command, f"http://127.0.0.1:{port}/"], check=False).returncode == 0

    poll_until(answers, 20.0, "an answer through the subject")


def load(run: Processes, port: int, seconds: float) -> dict[str, float]:
    """Requests for each second on connections that are kept, and on new ones; us of CPU for each.

    `kept_p99` and `new_p99` are milliseconds.
    """
    proc.pin(run.pids("server"), min(os.sched_getaffinity(0)))
    row: dict[str, float] = {}
    for name, headers in (("kept", []), ("new", ["-H", "Connection: close"])):
        _wrk(port, 0.5, headers)
        before = proc.cpu_seconds(run.pids("server"))
        done = _wrk(port, seconds, headers)
        used = proc.cpu_seconds(run.pids("server")) - before
        row |= {f"{name}_{key}": value for key, value in done.items() if key != "count"}
        row[f"{name}_cpu"] = 1e6 * used / max(1.0, done["count"])
    return row


def _wrk(port: int, seconds: float, headers: list[str]) -> dict[str, float]:
    command = [require("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    url = f"http://127.0.0.1:{port}/"
    text = subprocess.run(
        [*command, "--latency", "-H", f"Host: {HOST}", *headers, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST + seconds,
    ).stdout
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    late = re.search(r"99%\s*([\d.]+)(us|ms|s)", text)
    if rate is None or count is None or late is None:
        raise RunFailed(f"wrk: {text}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+)", text)
    errors = float(bad[1]) if bad else 0.0
    if socket_errors:
        errors += float(socket_errors[1]) + float(socket_errors[2])
    return {
        "rps": float(rate[1]),
        "count": float(count[1]),
        "p99": float(late[1]) * _UNITS[late[2]] / 1e3,
        "errors": errors,
    }
