"""Tests of L{relaytun.cli.import_frp}."""

from __future__ import annotations

import os

from click.testing import CliRunner, Result

from relaytun.cli.main import relaytun
from relaytun.config import check_file
from tests.config.support import ConfigCase

PROXY = '[[proxies]]\nname = "{}"\ntype = "tcp"\nlocalPort = 22\nremotePort = 6000\n'


class ImportFrpTests(ConfigCase):
    """C{relaytun import-frp}."""

    def run_it(self, *arguments: str) -> Result:
        return CliRunner().invoke(relaytun, ["import-frp", *arguments])

    def test_stdout(self) -> None:
        """The file is on stdout and nothing else is; what there is to say is on stderr."""
        path = self.write("frpc.toml", f'serverAddr = "a"\nuser = "b"\n{PROXY.format("ssh")}')
        result = self.run_it(path)
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(check_file(self.write("out.ini", result.stdout)), "client")
        self.assertIn("[service:b.ssh]\n", result.stdout)
        lines = result.stderr.splitlines()
        self.assertTrue(lines and all(line.startswith("relaytun: ") for line in lines), lines)

    def test_output(self) -> None:
        """A file is written for its owner only, and never over another one."""
        path = self.write("frps.toml", 'bindPort = 7000\nauth.token = "s3cret"\n')
        out = f"{self.folder}/server.ini"
        result = self.run_it(path, "--output", out)
        self.assertEqual((result.exit_code, result.stdout), (0, f"{out}: a server configuration\n"))
        self.assertEqual(check_file(out), "server")
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o600)
        again = self.run_it(path, "--output", out)
        self.assertEqual(again.exit_code, 1)
        self.assertIn("server.ini is there already: give another --output", again.stderr)
        nowhere = self.run_it(path, "-o", f"{self.folder}/no/server.ini")
        self.assertIn("cannot write", nowhere.stderr)

    def test_includes(self) -> None:
        """The files that a pattern means are read; a folder that is not there is an error."""
        (self.folder / "confd").mkdir()
        (self.folder / "confd" / "x.toml.d").mkdir()
        for name in ("b", "a"):
            self.write(f"confd/{name}.toml", PROXY.format(name))
        self.write("confd/c.other", "broken")
        path = self.write("frpc.toml", f'includes = ["{self.folder}/confd/*.toml*"]\nuser = "u"\n')
        result = self.run_it(path)
        self.assertEqual(result.exit_code, 0, result.stderr)
        self.assertIn("[service:u.a]", result.stdout)
        self.assertIn("[service:u.b]", result.stdout)
        path = self.write("frpc.toml", f'includes = ["{self.folder}/no/*.toml"]\nuser = "u"\n')
        result = self.run_it(path)
        self.assertEqual(result.exit_code, 2)
        self.assertIn("there is no such folder", result.stderr)

    def test_broken(self) -> None:
        """A file that cannot be read or is broken is exit 2 and a line, and nothing on stdout."""
        self.patch(os, "environ", {})
        for path in (
            f"{self.folder}/no.toml",
            self.write("frpc.toml", "user = \n"),
            self.write("frpc.ini", "[common]\ntoken = {{ .Envs.NO }}\n"),
        ):
            result = self.run_it(path)
            self.assertEqual((result.exit_code, result.stdout), (2, ""))
            (line,) = result.stderr.splitlines()
            self.assertTrue(line.startswith(f"relaytun: {path}: "), line)
