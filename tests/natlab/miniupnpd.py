"""
A home router that maps ports for those who ask: miniupnpd in the namespace of a NAT of the lab.

It takes no address of the blocks for documentation as its outer one, so it has another one there;
the lab has no way out by which anything could come to the real owner of that.
"""

from __future__ import annotations

from ..integration.processes import Process, ProcessTestCase, needs, program
from .lab import Lab

_OUTER = {"na": "11.0.0.2", "nb": "11.0.1.2"}
_CONFIG = """
ext_ifname=wan
ext_ip={outer}
listening_ip=lan
enable_natpmp={pmp}
enable_upnp={upnp}
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000001
min_lifetime=1
max_lifetime=600
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=mapped
upnp_nat_chain=mapped_before
upnp_nat_postrouting_chain=mapped_after
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
_RULES = """
table inet upnp {
    chain mapped {
    }
    chain mapped_before {
    }
    chain mapped_after {
    }
    chain before {
        type nat hook prerouting priority dstnat - 1; policy accept;
        jump mapped_before
    }
    chain after {
        type nat hook postrouting priority srcnat - 1; policy accept;
        jump mapped_after
    }
}
"""


def start_miniupnpd(
    testcase: ProcessTestCase, lab: Lab, router: str = "na", *, pmp: bool = True, upnp: bool = False
) -> tuple[Process, str]:
    """
    Have a NAT map ports.

    @param pmp: by PCP and NAT-PMP.
    @param upnp: by UPnP.
    @return: the process, and the outer address that mapped ports have.
    @raise SkipTest: if it is not installed.
    """
    needs("miniupnpd")
    outer = _OUTER[router]
    home = "a" if router == "na" else "b"
    lab.run(router, "ip", "addr", "add", f"{outer}/32", "dev", "wan")
    lab.run("pub", "ip", "route", "add", f"{outer}/32", "via", lab.address(router))
    lab.run(router, "ip", "route", "add", "239.0.0.0/8", "dev", "lan")
    lab.run(home, "ip", "route", "replace", "239.0.0.0/8", "dev", "eth0")
    lab.run(router, "nft", "-f", "-", given=_RULES)
    config = testcase.folder / f"{router}.conf"
    yes = {True: "yes", False: "no"}
    config.write_text(_CONFIG.format(outer=outer, pmp=yes[pmp], upnp=yes[upnp]))
    pidfile = str(testcase.folder / f"{router}.pid")
    words = program("miniupnpd"), "-d", "-f", str(config), "-P", pidfile
    process = lab.start(testcase, router, f"miniupnpd-{router}", *words)
    process.wait_for("Listening for NAT-PMP" if pmp else "HTTP listening on port")
    return process, outer
