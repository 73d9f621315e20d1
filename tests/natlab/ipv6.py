"""
IPv6 in a lab of two homes: no NAT, and routers that let in answers, and nothing else.

The homes do not reach each other over IPv4 any more; the server is reached over that, as before.
"""

from __future__ import annotations

from .lab import Lab

_RULES = """
table ip6 lab {
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname lan accept
    }
}
"""
#: As for IPv4: the homes are more hops apart than the lab has routers.
_BETWEEN = """
table ip6 lab {{
    chain between {{
        type filter hook forward priority filter; policy accept;
        ip6 hoplimit < 8 drop
        {more}
    }}
}}
"""


def add_ipv6(lab: Lab, only: str = "") -> None:
    """
    @param lab: of two homes, each behind a router of its own.
    @param only: C{udp}: nothing else passes between the homes.
    """
    hosts = "pub", "a", "na", "b", "nb"
    for host in hosts:
        keys = ["net.ipv6.conf.all.disable_ipv6=0"]
        if host not in "ab":
            keys.append("net.ipv6.conf.all.forwarding=1")
        lab.run(host, "sysctl", "-qw", *keys)
    for home in "ab":
        router = f"n{home}"
        inner, outer = f"2001:db8:{home}:1::", f"2001:db8:{home}:2::"
        _ip(lab, home, f"addr add {inner}10/64 dev eth0 nodad", f"route add default via {inner}1")
        _ip(
            lab,
            router,
            f"addr add {inner}1/64 dev lan nodad",
            f"addr add {outer}2/64 dev wan nodad",
            f"route add default via {outer}1",
        )
        _ip(
            lab,
            "pub",
            f"addr add {outer}1/64 dev {router} nodad",
            f"route add {inner}/64 via {outer}2",
        )
        lab.run(router, "nft", "-f", "-", given=_RULES)
    more = f"meta l4proto != {{ {only}, ipv6-icmp }} drop" if only else ""
    lab.run("pub", "nft", "-f", "-", given=_BETWEEN.format(more=more))
    lab.cut_direct()


def _ip(lab: Lab, host: str, *lines: str) -> None:
    lab.run(host, "ip", "-6", "-batch", "-", given="".join(f"{line}\n" for line in lines))
