"""
C{relaytun}, the group of all subcommands, and its console entry point.

A user's mistake, wherever it is found, ends here in a line on stderr for each thing that is
wrong, and the exit code that goes with it.
"""

from __future__ import annotations

from typing import Any

import click

from .. import __version__
from ..errors import UserError
from .check import check
from .clients import clients
from .connect import connect
from .demo import demo
from .doctor import doctor
from .expose import expose
from .id import own_id
from .import_frp import import_frp
from .nat import nat
from .reload import reload_config
from .stats import stats
from .status import status


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            for line in str(error).splitlines():
                click.echo(f"relaytun: {line}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def relaytun() -> None:
    """
    Reach services behind NAT through a relay that cannot read them.

    The server and the client that stays are daemons of their own: twistd relaytun-server and
    twistd relaytun-client.
    """


_COMMANDS = (
    check,
    clients,
    connect,
    demo,
    doctor,
    expose,
    import_frp,
    nat,
    own_id,
    reload_config,
    stats,
    status,
)

for _command in _COMMANDS:
    relaytun.add_command(_command)


def main() -> None:
    """The console entry point."""
    relaytun(prog_name="relaytun")
