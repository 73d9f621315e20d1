"""
Configuration: INI and JSON files and options -> frozen, validated values.

Every configuration error is raised here, as L{relaytun.errors.ConfigError} with
a line for each problem. Nothing here listens, dials or writes.
"""

from __future__ import annotations

from relaytun.config.check import check_file
from relaytun.config.client import ClientConfig, ConnectConfig, default_state_dir, load_client
from relaytun.config.health import HealthCheck
from relaytun.config.invite import ServerAddress, format_invite, parse_invite
from relaytun.config.networks import Network, PortRange
from relaytun.config.public import PublicConfig
from relaytun.config.server import ServerConfig, load_server
from relaytun.config.services import AllowedVisitor, ServiceConfig
from relaytun.config.users import UserConfig

__all__ = [
    "AllowedVisitor",
    "ClientConfig",
    "ConnectConfig",
    "HealthCheck",
    "Network",
    "PortRange",
    "PublicConfig",
    "ServerAddress",
    "ServerConfig",
    "ServiceConfig",
    "UserConfig",
    "check_file",
    "default_state_dir",
    "format_invite",
    "load_client",
    "load_server",
    "parse_invite",
]
