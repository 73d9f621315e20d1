"""Tests of L{relaytun.config.json_file}."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, strategies as st

from relaytun.config.json_file import read_json
from relaytun.config.section import Section
from relaytun.errors import ConfigError
from tests.config.support import ConfigCase

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)
KEYS = st.sampled_from(["clientId", "services", "connect", "heartbeatInterval", "token", "x"])


class JsonTests(ConfigCase):
    """The form of a JSON file."""

    def read(self, text: str) -> tuple[list[Section], list[str]]:
        notes: list[str] = []
        sections = read_json("a.json", text, notes)
        for section in sections:
            section.check()
        return sections, notes

    def noted(self, text: str) -> list[str]:
        return self.read(text)[1]

    def broken(self, text: str) -> str:
        (line,) = self.problems(lambda: self.read(text))
        return line

    @given(st.text() | st.dictionaries(KEYS, VALUES).map(json.dumps))
    def test_only_config_errors(self, text: str) -> None:
        """Whatever the text, the only error is ConfigError."""
        with contextlib.suppress(ConfigError):
            self.read(text)

    def test_texts(self) -> None:
        """Numbers, switches and lists become the texts of an INI file."""
        (client, service), notes = self.read(
            """{"serverUrl": "wss://a", "autoReconnect": false, "reconnectInterval": 1500,
                "heartbeatInterval": "20s", "token": null, "resumeTimeout": 90000,
                "servers": ["wss://a", "wss://b"],
                "services": [{"id": "web", "localPort": 80, "allow": ["a", "b"]}]}"""
        )
        self.assertEqual(notes, [])
        self.assertEqual(
            {key: client.text(key) for key in client.entries},
            {
                "server": "wss://a",
                "auto_reconnect": "no",
                "reconnect_interval": "1500ms",
                "heartbeat_interval": "20s",
                "resume_timeout": "90000ms",
                "servers": "wss://a\nwss://b",
            },
        )
        self.assertEqual(
            {key: service.text(key) for key in service.entries},
            {"id": "web", "local_port": "80", "allow": "a\nb"},
        )

    def test_syntax(self) -> None:
        """What is no JSON is told by line and column."""
        self.assertEqual(
            self.broken('{"clientId":\n  s3cret}'),
            "a.json: line 2 column 3: not JSON: Expecting value",
        )
        self.assertEqual(self.broken("{} {}"), "a.json: line 1 column 4: not JSON: Extra data")
        self.assertEqual(self.broken("{" + '"a":[' + "[" * 100_000), _TOO_DEEP)
        self.assertEqual(self.broken("[]"), "a.json: must be one JSON object")

    def test_no_numbers(self) -> None:
        """The constants that Python adds to JSON are refused."""
        for constant in ("NaN", "Infinity", "-Infinity"):
            line = self.broken(f'{{"heartbeatInterval": {constant}}}')
            self.assertEqual(line, f"a.json: {constant} is not JSON: write a number")

    def test_duplicates(self) -> None:
        """A key that is there twice in one object is told, also in a broken file."""
        twice = "a.json: token: is there twice in one object: remove one"
        self.assertEqual(self.noted('{"token": "a", "token": "b"}'), [twice])
        lines = self.problems(lambda: self.read('{"x": {"token": "a", "token": "b"},}'))
        self.assertEqual((len(lines), lines[0]), (2, twice))

    def test_unknown_keys(self) -> None:
        """An unknown key names the nearest one, with where it stands."""
        notes = self.noted('{"client_id": "a", "service": [], "connect": [{"nam": "a"}]}')
        self.assertEqual(
            notes,
            [
                "a.json: client_id: unknown key: did you mean clientId?",
                "a.json: service: unknown key: did you mean services?",
                "a.json: connect[0].nam: unknown key: did you mean name?",
            ],
        )

    def test_types(self) -> None:
        """A value of the wrong type is told what type is right."""
        for body, saying in {
            '"clientId": 5': "clientId: must be a text in double quotes",
            '"clientId": {}': "clientId: must be a text in double quotes",
            '"autoReconnect": "yes"': "autoReconnect: must be true or false",
            '"heartbeatInterval": true': "heartbeatInterval: must be a number of milliseconds",
            '"heartbeatInterval": "1000"': "or a text with a unit",
            '"servers": "wss://a"': "servers: must be a list of texts, one for each server",
            '"servers": [1]': "servers: must be a list of texts, one for each server",
            '"servers": ["wss://a, wss://b"]': "servers: must be a list of texts",
            '"services": {}': "services: must be a list of objects",
            '"services": ["web"]': "services[0]: must be an object",
            '"services": [{"localPort": true}]': "services[0].localPort: must be a number",
            '"services": [{"allow": "a"}]': "services[0].allow: must be a list of texts",
            '"services": [{"allow": [1]}]': "services[0].allow: must be a list of texts",
            '"services": [{"allow": ["a,b"]}]': "services[0].allow: must be a list of texts",
        }.items():
            (note,) = self.noted(f"{{{body}}}")
            self.assertIn(saying, note)

    def test_environment(self) -> None:
        """Texts may come from the environment as in an INI file."""
        self.environment({"T": "x"})
        (client,), _ = self.read('{"token": "${T}"}')
        self.assertEqual(client.text("token"), "x")


_TOO_DEEP = "a.json: not JSON for people: it is nested too deeply"
