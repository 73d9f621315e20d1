"""
This machine's addresses that another client might reach it by, in the same network or anywhere.

Without those of loopback, links, multicast, containers and VPNs: nobody else gets there, or gets
there by a way that is slower than it looks.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable

import ifaddr

#: So many are worth an attempt.
MOST_ADDRESSES = 6

#: Interfaces of containers, virtual machines, tunnels and VPNs, by how their names begin.
_NOT_OURS = re.compile(
    r"(docker|veth|br-|virbr|vnet|vmnet|vboxnet|lxc|lxd|incus|podman|cni|flannel|cali|cilium|kube"
    r"|tun|tap|utun|wg|tailscale|zt|nordlynx|ipsec|ppp|gre|sit|ip6tnl|dummy|awdl|llw)",
    re.IGNORECASE,
)
_LOCAL = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
#: Bits of an IPv6 address that all hosts of one network share (RFC 4291, section 2.5.4).
_SUBNET = 64


def local_addresses(
    adapters: Callable[[], Iterable[ifaddr.Adapter]] = ifaddr.get_adapters,
) -> list[str]:
    """
    @return: literal addresses, IPv4 first, in the order of the interfaces; at most
        L{MOST_ADDRESSES}.
    """
    found: dict[int, dict[str, None]] = {4: {}, 6: {}}
    for adapter in adapters():
        if _NOT_OURS.match(adapter.nice_name):
            continue
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text.partition("%")[0])
            if _is_worth(address):
                found[address.version][str(address)] = None
    return [*found[4], *found[6]][:MOST_ADDRESSES]


def source_address(host: str) -> str:
    """
    The address with which this machine talks to a literal one; nothing is sent.

    @raise OSError: there is no way there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 9))
        return str(sock.getsockname()[0])


def local_address_towards(host: str) -> str | None:
    """As L{source_address}, and C{None} if there is no way there."""
    with contextlib.suppress(OSError):
        return source_address(host)
    return None


def is_own_address(host: str) -> bool:
    """Whether this machine has a literal address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.bind((host, 0))
        return True
    return False


def _is_worth(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.is_loopback or address.is_link_local or address.is_multicast:
        return False
    if address.is_unspecified:
        return False
    # Of what was assigned for nothing (RFC 3879), for mapping, or for translation, too.
    if isinstance(address, ipaddress.IPv6Address):
        return not address.is_site_local and address.ipv4_mapped is None
    return True


def is_local(host: str, local: str = "") -> bool:
    """
    Whether an address is of a network of one's own (RFC 1918, RFC 4193), or of one's own network.

    @param local: an own address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if any(address in network for network in _LOCAL if network.version == address.version):
        return True
    if address.version == 4 or ":" not in local:
        return False
    return address in ipaddress.ip_network(f"{local}/{_SUBNET}", strict=False)
