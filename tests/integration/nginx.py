"""nginx, for tests that want a real web server."""

from __future__ import annotations

from .processes import Process, ProcessTestCase, dialled, eventually, free_port, program

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 10000;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} {listen};
        root {folder}/www;
{lines}
    }}
}}
"""


def start_nginx(case: ProcessTestCase, lines: str = "", listen: str = "") -> tuple[Process, int]:
    """
    Start it on some port that is free, with C{www} in the test's folder as its root.

    @param lines: for its server.
    @param listen: after the port.
    @return: the process and its port.
    """
    # Where nginx is started by root, its files are still read by root: there is no master.
    folder = case.folder
    folder.chmod(0o755)
    (folder / "www").mkdir(exist_ok=True)
    while True:
        port = free_port()
        path = folder / "nginx.conf"
        path.write_text(_CONFIGURATION.format(folder=folder, port=port, lines=lines, listen=listen))
        nginx = case.start("nginx", program("nginx"), "-p", str(folder), "-c", str(path))
        eventually(
            lambda nginx=nginx, port=port: _over(nginx) or answers(port),
            lambda nginx=nginx: f"nginx does not answer: {nginx.output}",
        )
        if not _over(nginx):
            return nginx, port
        case.assertIn("Address already in use", nginx.output)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with dialled(port):
            return True
    except OSError:
        return False


def _over(process: Process) -> bool:
    return process.popen.poll() is not None
