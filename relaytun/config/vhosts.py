"""
The section C{[http]}: host names on shared ports of the server. Opens none of them.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from relaytun.config import values
from relaytun.config.domains import domain
from relaytun.config.files import check_readable
from relaytun.config.hooks import http_url
from relaytun.config.section import Section

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class VhostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    The part of a server's configuration that is about host names.

    @ivar vhost_http: a port number as text, or a Twisted endpoint description; L{None}: there is
        none.
    @ivar vhost_https: likewise; it may be the control port.
    @ivar subdomain_host: what the subdomains are under.
    @ivar certificates: a folder of certificates and keys.
    @ivar acme: the URL of an ACME server's directory; L{None}: certificates are not obtained.
    @ivar acme_ca: a PEM file that vouches for the ACME server itself; L{None}: the system does.
    @ivar response_timeout: seconds that a service may take to begin its answer.
    """

    vhost_http: str | None = None
    vhost_https: str | None = None
    subdomain_host: str | None = None
    certificates: Path | None = None
    acme: str | None = None
    acme_email: str | None = None
    acme_ca: Path | None = None
    response_timeout: float = 60.0


def read_vhosts(section: Section) -> VhostConfig:
    """Read the section, which may be empty."""
    vhosts = VhostConfig(
        vhost_http=section.get("vhost_http_port", values.listening, None),
        vhost_https=section.get("vhost_https_port", values.listening, None),
        subdomain_host=section.get("subdomain_host", domain, None),
        certificates=section.get("certificates", _folder, None),
        acme=section.get("acme", _acme, None),
        acme_email=section.get("acme_email", _email, None),
        acme_ca=section.get("acme_ca", _readable, None),
        response_timeout=section.get("response_timeout", values.positive_duration, 60.0),
    )
    if not section.given("vhost_https_port"):
        for key, value in (("certificates", vhosts.certificates), ("acme", vhosts.acme)):
            if value is not None:
                section.note(key, "is for HTTPS: write vhost_https_port, or remove this key")
    return vhosts


def _acme(text: str) -> str | None:
    if text in ("yes", "no"):
        return LETS_ENCRYPT if text == "yes" else None
    try:
        secure = urlsplit(http_url(text)).scheme == "https"
    except ValueError:
        secure = False
    if not secure:
        raise ValueError(
            "use yes (Let's Encrypt), no, or the https:// URL of another ACME server's directory"
        )
    return text


def _email(text: str) -> str:
    name, at, host = text.partition("@")
    if not (name and at and host) or " " in text or "@" in host or values.unprintable(text):
        raise ValueError("not an address: write one such as admin@example.com")
    return text


def _folder(text: str) -> Path:
    path = values.path(text)
    if not path.is_dir():
        raise ValueError("not a folder: make it, or correct the path")
    return path


def _readable(text: str) -> Path:
    return check_readable(values.path(text))
