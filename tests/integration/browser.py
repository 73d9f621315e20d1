"""A real browser without a screen, and a page that uses what browsers have."""

from __future__ import annotations

import json
from typing import Any

from .processes import PATIENCE, Process, ProcessTestCase, program
from .web import WebService

#: What the page needs of services beside it: all of L{WebService}, and a WebSocket that sends back
#: what comes, at C{/ws}.  In the end it tells the service what became of it, at C{/told}.
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Test</title></head><body><script>
const size = {size}, times = {times};
async function talk() {{
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws");
    socket.binaryType = "arraybuffer";
    const answers = [];
    await new Promise((resolve, reject) => {{
        socket.onopen = () => {{ socket.send("text"); socket.send(new Uint8Array(300000)); }};
        socket.onmessage = event => {{
            answers.push(event.data.byteLength || event.data);
            if (answers.length === 2) socket.send("close");
        }};
        socket.onclose = event => {{ answers.push(event.code); resolve(); }};
        socket.onerror = () => reject(new Error("the WebSocket failed"));
    }});
    return answers;
}}
async function all() {{
    const text = await (await fetch("/text", {{cache: "no-store"}})).text();
    const missing = (await fetch("/forbidden")).status;
    const many = await Promise.all(Array.from({{length: 30}}, async (_, number) =>
        await (await fetch("/many" + number)).text() === "web /many" + number));
    const socket = await talk();
    const part = await (await fetch("/bytes/" + size)).blob();
    const whole = new Blob(Array(times).fill(part));
    const sent = await (await fetch("/up", {{method: "POST", body: whole}})).json();
    return {{text, missing, many: many.filter(each => each).length, socket, size: sent.size}};
}}
all().catch(error => ({{error: String(error)}})).then(
    told => fetch("/told", {{method: "POST", body: JSON.stringify(told)}}));
</script></body></html>
"""
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--ignore-certificate-errors", "--no-proxy-server",
    "--host-resolver-rules=MAP * 127.0.0.1",
)  # fmt: skip


def page(size: int, times: int = 1) -> bytes:
    """@param size, times: how much it downloads, and how often it uploads that in one go."""
    return PAGE.format(size=size, times=times).encode()


def browse(case: ProcessTestCase, url: str) -> Process:
    """Show a page; all host names are this machine."""
    profile = case.folder / "profile"
    return case.start(
        "chromium", program("chromium"), *_OPTIONS, f"--user-data-dir={profile}", url,
        HOME=str(case.folder),
    )  # fmt: skip


def told(service: WebService, patience: float = PATIENCE) -> dict[str, Any]:
    """What the page says in the end."""
    answer: dict[str, Any] = json.loads(service.wait_for("/told", patience).begin)
    return answer
