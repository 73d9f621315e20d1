"""Tests of L{relaytun.frp.visitors}."""

from __future__ import annotations

from tests.frp.support import Converted, FrpCase


class VisitorTests(FrpCase):
    """One visitor, one connect."""

    def visitor(self, text: str, user: str = "") -> tuple[dict[str, str], Converted]:
        found = self.convert(
            f'serverPort = 1\nuser = "{user}"\n[[visitors]]\nname = "v"\ntype = "stcp"\n{text}\n'
        )
        return found.sections.get("connect:v", {}), found

    def test_service(self) -> None:
        """A visitor names a service of its own user's, wherever that is; so there is no target."""
        wish = 'serverName = "ssh"\nbindPort = 9000\nsecretKey = "s3cret"'
        local = {"local_host": "127.0.0.1", "local_port": "9000"}
        section, found = self.visitor(wish)
        self.assertEqual(section, {"service": "ssh", **local})
        self.assertEqual(len(found.noted("secretKey")), 1)
        section, _ = self.visitor(wish, "ann")
        self.assertEqual(section, {"service": "ann.ssh", **local})

    def test_server_user(self) -> None:
        """A visitor of another user's service has that user for its target."""
        section, found = self.visitor('serverName = "ssh"\nserverUser = "bob"\nbindPort = 1', "ann")
        self.assertEqual((section["target"], section["service"]), ("bob", "bob.ssh"))
        self.assertEqual(len(found.noted("serverUser", "target")), 1)

    def test_matches_proxy(self) -> None:
        """Whatever the name, a visitor's import finds what the proxy's import offers."""
        for name in ("ssh", "my web", "远程", "x" * 99):
            offered = self.convert(
                f'user = "u"\n[[proxies]]\nname = "{name}"\ntype = "stcp"\nlocalPort = 1'
            )
            section, _ = self.visitor(f'serverName = "{name}"\nbindPort = 1', "u")
            self.assertIn(f"service:{section['service']}", offered.sections)

    def test_no_listener(self) -> None:
        """A visitor that opens no port is left out."""
        section, found = self.visitor('serverName = "ssh"\nbindPort = -1')
        self.assertEqual(section, {})
        self.assertEqual(len(found.noted("v: bindPort: left out")), 1)

    def test_no_counterpart(self) -> None:
        """What only frp's way of finding a path needs is said to need nothing."""
        _, found = self.visitor(
            'serverName = "ssh"\nbindPort = 1\nkeepTunnelOpen = true\nprotocol = "kcp"\n'
            'fallbackTo = "x"\ntransport.useCompression = true\n'
        )
        for key in ("keepTunnelOpen", "protocol", "fallbackTo", "useCompression"):
            self.assertEqual(len(found.noted(key, "nothing to set")), 1)
        section, found = self.visitor('serverName = "s"\nbindPort = 1\nplugin.type = "virtual_net"')
        self.assertEqual(section, {})
        self.assertEqual(len(found.noted("visitor plugins")), 1)

    def test_ini(self) -> None:
        """An INI file's visitor is a section with a role."""
        found = self.convert(
            "[common]\nserver_addr = x\n[v]\nrole = visitor\ntype = xtcp\nserver_name = s\n"
            "bind_port = 5\nsk = x\nmin_retry_interval = 90\n",
            "frpc.ini",
        )
        self.assertEqual(found.sections["connect:v"]["service"], "s")
        self.assertEqual(len(found.noted("v: sk:")), 1)
        self.assertEqual(found.noted("unknown"), [])

    def test_wrong(self) -> None:
        """What is wrong for frp too is an error."""
        base = '[[visitors]]\nname = "v"\n'
        self.assertIn("v: type: frp's visitors have", self.refused(base + 'type = "tcp"'))
        self.assertIn("v: serverName: missing", self.refused(base + 'type = "stcp"'))
