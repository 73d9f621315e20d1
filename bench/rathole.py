"""rathole over each of its transports: two hops, a connection of its own for each stream.

TLS and noise protect the way from the client to the server, which sees plain text.
"""

from __future__ import annotations

import datetime
import re
import secrets
import subprocess
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)

from .processes import Processes, RunFailed, free_port, require

_NAME = "bench.invalid"


@dataclass(frozen=True)
class Transport:
    """The ``transport`` sections of the server's and of the client's file."""

    server: str = ""
    client: str = ""


def plain(run: Processes, service: int) -> int:
    """Its plain TCP transport."""
    return _start(run, "tcp", service, Transport())


def tls(run: Processes, service: int) -> int:
    """Its TLS transport."""
    return _start(run, "tcp", service, _tls(run))


def noise(run: Processes, service: int) -> int:
    """Its noise transport, with the default pattern (NK, 25519, ChaChaPoly, BLAKE2s)."""
    return _start(run, "tcp", service, _noise(run))


def plain_udp(run: Processes, service: int) -> int:
    """A public UDP port over its plain TCP transport."""
    return _start(run, "udp", service, Transport())


def tls_udp(run: Processes, service: int) -> int:
    """A public UDP port over its TLS transport."""
    return _start(run, "udp", service, _tls(run))


def noise_udp(run: Processes, service: int) -> int:
    """A public UDP port over its noise transport."""
    return _start(run, "udp", service, _noise(run))


def _start(run: Processes, protocol: str, service: int, transport: Transport) -> int:
    control, port, token = free_port(), free_port(protocol), secrets.token_hex(16)
    server = run.write(
        "server.toml",
        f"""[server]
bind_addr = "127.0.0.1:{control}"
default_token = "{token}"
[server.services.bench]
type = "{protocol}"
bind_addr = "127.0.0.1:{port}"
{transport.server}""",
    )
    client = run.write(
        "client.toml",
        f"""[client]
remote_addr = "127.0.0.1:{control}"
default_token = "{token}"
[client.services.bench]
type = "{protocol}"
local_addr = "127.0.0.1:{service}"
{transport.client}""",
    )
    program, quiet = require("rathole"), {"RUST_LOG": "error"}
    run.spawn("server", [program, "--server", server], quiet)
    run.wait_listening(control)
    run.spawn("provider", [program, "--client", client], quiet)
    return port


def _tls(run: Processes) -> Transport:
    """A certificate for the server, which the client trusts as its root."""
    password = secrets.token_hex(16)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    identity = run.folder / "identity.pfx"
    encryption = BestAvailableEncryption(password.encode())
    identity.write_bytes(
        pkcs12.serialize_key_and_certificates(b"bench", key, certificate, None, encryption)
    )
    root = run.write("root.pem", certificate.public_bytes(Encoding.PEM).decode())
    return Transport(
        f"""[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{identity}"
pkcs12_password = "{password}"
""",
        f"""[client.transport]
type = "tls"
[client.transport.tls]
trusted_root = "{root}"
hostname = "{_NAME}"
""",
    )


def _noise(run: Processes) -> Transport:
    """A key pair for the server, of which the client knows the public half."""
    done = subprocess.run(
        [require("rathole"), "--genkey"], capture_output=True, text=True, check=True
    )
    keys = re.findall(r"^(\S+=)$", done.stdout, re.MULTILINE)
    if len(keys) != 2:
        raise RunFailed("rathole --genkey printed no pair of keys")
    private, public = keys
    return Transport(
        f"""[server.transport]
type = "noise"
[server.transport.noise]
local_private_key = "{private}"
""",
        f"""[client.transport]
type = "noise"
[client.transport.noise]
remote_public_key = "{public}"
""",
    )
