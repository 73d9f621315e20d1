"""
Configuration: INI and JSON files and options -> frozen, validated values.

Every configuration error is raised here, as L{relaytun.errors.ConfigError} with
a line for each problem. Nothing here listens, dials or writes.
"""

from __future__ import annotations

from relaytun.config.check import check_file
from relaytun.config.client import (
    AllowedVisitor,
    ClientConfig,
    ConnectConfig,
    ServiceConfig,
    default_state_dir,
    load_client,
)
from relaytun.config.invite import ServerAddress, format_invite, parse_invite
from relaytun.config.server import ServerConfig, load_server

__all__ = [
    "AllowedVisitor",
    "ClientConfig",
    "ConnectConfig",
    "ServerAddress",
    "ServerConfig",
    "ServiceConfig",
    "check_file",
    "default_state_dir",
    "format_invite",
    "load_client",
    "load_server",
    "parse_invite",
]
