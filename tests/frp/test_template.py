"""Tests of L{relaytun.frp.template}."""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import ConfigError
from relaytun.frp.template import Renderer

LOOP = """\
{{- range $_, $v := parseNumberRangePair "6000-6001,6007" "7000-7002" }}
[[proxies]]
name = "tcp-{{ $v.First }}"
localPort = {{ $v.First }}
remotePort = {{ $v.Second }}
{{- end }}
"""


class TemplateTests(SynchronousTestCase):
    """Go's templates, as far as frp's users need them."""

    def render(self, text: str, **environment: str) -> str:
        return Renderer("a.toml", environment).render(text)

    def refused(self, text: str, **environment: str) -> str:
        return str(self.assertRaises(ConfigError, self.render, text, **environment))

    def test_environment(self) -> None:
        """A value of the environment takes its place, and is told of."""
        renderer = Renderer("a.toml", {"TOKEN": "abc", "OTHER": "x"})
        self.assertEqual(
            renderer.render('token = "{{ .Envs.TOKEN }}{{.Envs.TOKEN}}"'), 'token = "abcabc"'
        )
        self.assertEqual(renderer.used, {"TOKEN"})

    def test_missing(self) -> None:
        """A variable that is not set is an error with its line, except in a comment."""
        self.assertEqual(
            self.refused("a = 1\nb = {{ .Envs.NO }}"),
            "a.toml: line 2: the environment variable NO is not set: set it",
        )
        self.assertEqual(self.render("  # b = {{ .Envs.NO }}\n;{{ .Envs.NO }}"), "  # b = \n;")

    def test_loop(self) -> None:
        """A loop over pairs of numbers writes its text for each, with the blanks trimmed."""
        self.assertEqual(
            self.render(LOOP),
            "".join(
                f'\n[[proxies]]\nname = "tcp-{first}"\nlocalPort = {first}\nremotePort = {second}'
                for first, second in ((6000, 7000), (6001, 7001), (6007, 7002))
            )
            + "\n",
        )

    def test_index(self) -> None:
        """A loop over numbers gives the number, and the index if two names are there."""
        self.assertEqual(
            self.render('{{ range $i, $v := parseNumberRange "5-6" }}{{ $i }}={{ $v }};{{ end }}'),
            "0=5;1=6;",
        )
        self.assertEqual(
            self.render("{{ range $v := parseNumberRange `5-6` -}} {{ $v }} {{ end }}"), "5 6 "
        )

    def test_comment(self) -> None:
        """A comment of the template is gone."""
        self.assertEqual(self.render("a{{/* no */}}b"), "ab")

    def test_unknown(self) -> None:
        """What is not known here is refused by its line and never half done."""
        for text in (
            "\n{{ if .Envs.X }}{{ end }}",
            '\n{{ .Envs.X | printf "%s" }}',
            "\n{{ $v.First }}",
            '\n{{ range $v := parseNumberRange "1" }}{{ $v.First }}{{ end }}',
            '\n{{ range $v := parseNumberRangePair "1" "1" }}{{ $v }}{{ end }}',
            "\n{{ range .Envs }}{{ end }}",
        ):
            self.assertIn("a.toml: line 2: a template that is not known", self.refused(text, X="x"))
        self.assertIn("without an end", self.refused('{{ range $v := parseNumberRange "1" }}'))
        self.assertIn("without a range", self.refused("{{ end }}"))
        self.assertIn(
            "not of the same length",
            self.refused('{{ range $v := parseNumberRangePair "1" "1-2" }}{{ end }}'),
        )

    def test_too_much(self) -> None:
        """Loops within loops do not fill the memory."""
        inner = '{{ range $a := parseNumberRange "1-9999" }}'
        self.assertIn("more text", self.refused(inner * 2 + "12345" + "{{ end }}" * 2))
        self.assertIn("not known", self.refused(inner * 4 + "{{ end }}" * 4))

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Any text is rendered or refused; one without braces stays as it is."""
        try:
            rendered = self.render(text)
        except ConfigError:
            return
        if "{{" not in text:
            self.assertEqual(rendered, text)
