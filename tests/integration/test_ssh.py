"""OpenSSH behind the tunnel: its own sshd, its own keys, and whoever runs the tests."""

from __future__ import annotations

import getpass
import hashlib
import os
import random
from pathlib import Path

from .processes import PATIENCE, Process, ProcessTestCase, eventually, free_port, needs, program

SIZE = 50 * 1000 * 1000

CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


class Ssh(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        needs("sshd", "ssh", "scp", "ssh-keygen")
        for name in ("host_key", "user_key"):
            made = self.start(
                "ssh-keygen",
                *(program("ssh-keygen"), "-q", "-t", "ed25519", "-N", ""),
                *("-f", str(self.folder / name)),
            )
            self.assertEqual(made.wait(), 0, made.output)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it, if root starts it.
        service = self.start_sshd()
        port = self.start_tunnel(service)
        key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
        self.options = [
            *("-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
            *("-o", f"IdentityFile={self.folder}/user_key"),
            *("-o", f"UserKnownHostsFile={self.folder}/known_hosts"),
            *("-o", "StrictHostKeyChecking=yes", "-o", f"Port={port}"),
        ]
        self.host = f"{getpass.getuser()}@127.0.0.1"

    def start_tunnel(self, service: int) -> int:
        """A tunnel to C{service}; returns the visitor's port."""
        self.start_server()
        self.start_provider(service)
        return self.start_visitor()[1]

    def start_sshd(self) -> int:
        """Start it on some port that is free; returns that."""
        while True:
            port = free_port()
            path = self.folder / "sshd_config"
            path.write_text(CONFIGURATION.format(folder=self.folder, port=port))
            sshd = self.start("sshd", program("sshd"), "-D", "-e", "-f", str(path))
            eventually(
                lambda sshd=sshd: sshd.popen.poll() is not None or "listening on" in sshd.output,
                lambda sshd=sshd: f"sshd does not listen: {sshd.output}",
            )
            if sshd.popen.poll() is None:
                return port
            self.assertIn("Address already in use", sshd.output)

    def run_program(self, name: str, *arguments: str) -> Process:
        """Run ssh or scp with the options of this test to its end, which has to be a good one."""
        process = self.start(name, program(name), *self.options, *arguments)
        self.assertEqual(process.wait(2 * PATIENCE), 0, process.output)
        return process

    def test_login(self) -> None:
        """A login through the tunnel runs a command and ends with its end."""
        ssh = self.run_program("ssh", self.host, "echo through the tunnel")
        self.assertEqual(ssh.lines, ["through the tunnel"])

    def test_copies(self) -> None:
        """A file copied through the tunnel, there and back, is still the same."""
        original, there, back = (self.folder / name for name in ("original", "there", "back"))
        original.write_bytes(random.randbytes(SIZE))
        self.run_program("scp", "-q", str(original), f"{self.host}:{there}")
        self.assertEqual(digest(there), digest(original))
        self.run_program("scp", "-q", f"{self.host}:{there}", str(back))
        self.assertEqual(digest(back), digest(original))


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
