"""What is shipped beside the code: the sample configurations and the systemd units."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import relaytun
from relaytun.config.check import check_file
from relaytun.config.keys import CLIENT_HOOKS, KEYS, SERVER_HOOKS

CHECKOUT = Path(relaytun.__file__).parents[1]
ETC = CHECKOUT / "etc"
ROLES = ("server", "client")


class SampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        if not ETC.is_dir():
            self.skipTest("the tests do not run from a checkout")

    def keys_of(self, role: str, kind: str) -> set[str]:
        """The keys that a sample has in its sections of one kind, commented out or not."""
        keys = set()
        inside = False
        for line in (ETC / f"{role}.ini").read_text().splitlines():
            section = re.match(r";?\[(\w+)", line)
            key = re.match(r";?(\w+) =", line)
            if section:
                inside = section[1] == kind
            elif inside and key:
                keys.add(key[1])
        return keys

    def test_samples_are_valid(self) -> None:
        """Each sample is a file that its side would start with."""
        for role in ROLES:
            self.assertEqual(check_file(str(ETC / f"{role}.ini")), role)

    def test_samples_show_every_key(self) -> None:
        """A sample has each key that there is, and no other."""
        for role, kind in (
            ("server", "server"),
            ("server", "public"),
            ("server", "http"),
            ("server", "user"),
            ("client", "client"),
            ("client", "service"),
            ("client", "connect"),
        ):
            self.assertEqual(self.keys_of(role, kind), set(KEYS[kind]), kind)
        self.assertEqual(self.keys_of("server", "hooks"), set(SERVER_HOOKS))
        self.assertEqual(self.keys_of("client", "hooks"), set(CLIENT_HOOKS))

    def test_units_use_a_state_directory_of_their_own(self) -> None:
        """A server and a client on one machine share neither keys nor a control socket."""
        units = {role: (ETC / f"relaytun-{role}.service").read_text() for role in ROLES}
        directories = [re.findall(r"(?m)^StateDirectory=(.+)$", unit) for unit in units.values()]
        self.assertEqual(directories, [["relaytun"], ["relaytun-client"]])

    def test_units_start_the_plugin(self) -> None:
        """Each unit runs its twistd plugin in the foreground, with its configuration."""
        for role in ROLES:
            unit = (ETC / f"relaytun-{role}.service").read_text()
            command = f"/twistd -n --pidfile= relaytun-{role} --config /etc/relaytun/{role}.ini"
            self.assertEqual(len(re.findall(f"(?m)^ExecStart=/.*{command}$", unit)), 1)
