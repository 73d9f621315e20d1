"""What C{relaytun doctor} checks of a server, on the machine that it runs on."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..adminsocket import ask
from ..config import ClientConfig, ServerConfig, parse_invite
from ..errors import UserError
from ..interfaces import IReactor
from ..link.identity import Identity, der, fingerprint
from ..statedir import StateDir
from ..tls import options_of_files
from .checkup import Checkup, NotNow, answers, relay_answers, resolved, usable_state_dir
from .online import online
from .show import duration

#: Descriptors below which a server is full before it has many streams: two for each.
FEW_DESCRIPTORS = 4096


async def examine_server(reactor: IReactor, checkup: Checkup, config: ServerConfig) -> None:
    """Everything that can be seen from here; what a firewall does, a client's doctor sees."""
    server = _Server(reactor, config)
    check = checkup.check
    await check("state directory", server.state_directory)
    await check("certificate", server.certificate, "state directory")
    await check("token", server.token, "state directory")
    await check("daemon", server.daemon, "state directory")
    await check("descriptors", server.descriptors, "daemon")
    await check("control port", server.control_port, "daemon")
    await check("login", server.login, "control port")
    await check("relay port", server.relay_port, "daemon")
    if config.public_host is not None:
        await check("public_host", partial(resolved, config.public_host))


class _Server:
    def __init__(self, reactor: IReactor, config: ServerConfig) -> None:
        self._reactor = reactor
        self._config = config
        self._listening: dict[str, Any] = {}

    def state_directory(self) -> str:
        return usable_state_dir(self._config.state_dir)

    def certificate(self) -> str:
        config = self._config
        if config.certificate is not None and config.key is not None:
            _, shown = options_of_files(config.certificate, config.key)
            return f"{config.certificate}: {fingerprint(der(shown))}"
        pem = self._read("server.pem")
        try:
            return Identity.from_pem(pem).fingerprint
        except ValueError as error:
            raise UserError(
                f"{config.state_dir / 'server.pem'} cannot be used: {error}; remove it to have a "
                "new one made (every client then needs the new invite)"
            ) from None

    def token(self) -> str:
        if self._config.token is not None:
            return "in the configuration"
        path = self._config.state_dir / "token"
        if not path.exists():
            raise NotNow("none is kept: an --open server has none, another makes it at its start")
        if not self._read("token").strip():
            raise UserError(f"{path} is empty: remove it to have a new token made")
        return f"in {path}"

    def daemon(self) -> str:
        try:
            answer = ask(self._config.state_dir, "status")
        except UserError as error:
            raise UserError(
                f"{error}: start it with twistd relaytun-server, or see its log"
            ) from None
        if answer["role"] != "server":
            raise UserError(f"a {answer['role']} uses the state directory: name another state_dir")
        self._listening = answer["listening"]
        clients, sessions = len(answer["clients"]), len(answer["sessions"])
        running = duration(answer["uptime"])
        return f"has been running for {running}: clients {clients}, sessions {sessions}"

    def descriptors(self) -> str:
        limit = descriptor_limit(self._read("lock"))
        if limit is None:
            raise NotNow("this platform does not tell another process's limit")
        if limit < FEW_DESCRIPTORS:
            raise UserError(
                f"the daemon may open {limit}, two for each stream: raise the limit "
                "(LimitNOFILE= in its systemd unit, ulimit -n in a shell)"
            )
        return f"the daemon may open {limit}, two for each stream"

    async def control_port(self) -> str:
        return await answers(*self._address("control"), "see the server's log")

    async def login(self) -> str:
        """As a client on this machine, which keeps neither name nor identity."""
        try:
            server = parse_invite(self._read("invite").decode("ascii", "replace"))
        except ValueError as error:
            raise UserError(f"{self._config.state_dir / 'invite'}: {error}") from None
        host, port = self._address("control")
        server = msgspec.structs.replace(server, host=host, port=port)
        client = ClientConfig(servers=(server,), state_dir=self._config.state_dir)
        async with online(self._reactor, client, Identity.make("relaytun")):
            return "the server lets in who has the invite"

    async def relay_port(self) -> str:
        return await relay_answers(*self._address("relay"))

    def _address(self, name: str) -> tuple[str, int]:
        host, port = self._listening[name]["host"], self._listening[name]["port"]
        if not port:
            raise NotNow("it is no TCP port")
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port

    def _read(self, name: str) -> bytes:
        """A file of the state directory, which is there once the server has run."""
        directory = self._config.state_dir
        content = StateDir(directory).read(name) if directory.is_dir() else None
        if content is None:
            raise NotNow(f"there is no {directory / name}: the server makes it when it starts")
        return content


def descriptor_limit(lock: bytes) -> int | None:
    """
    How many descriptors the daemon may have; C{None} if the platform does not tell.

    @param lock: the content of its lock file, which is its process number.
    """
    try:
        limits = Path(f"/proc/{int(lock)}/limits").read_text()
    except (OSError, ValueError):
        return None
    found = re.search(r"(?m)^Max open files\s+(\d+)", limits)
    return int(found[1]) if found else None
