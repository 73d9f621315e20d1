"""
What a client offers, as its servers are told at each login and when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from ..config import ServiceConfig
from ..wire import messages


class Offer:
    """
    @ivar services: as messages have them.
    @ivar exposures: those of them that the server is to open for the public.
    """

    def __init__(self, services: Sequence[ServiceConfig] = ()) -> None:
        self.services: tuple[messages.Service, ...] = ()
        self.exposures: tuple[messages.Exposure, ...] = ()
        self.use(services)

    def use(self, services: Sequence[ServiceConfig]) -> None:
        """These are offered from now on."""
        self.services = tuple(map(service_message, services))

    def update(self) -> messages.UpdateServices:
        """What a server has to be told for it to hold."""
        return messages.UpdateServices(services=self.services, exposures=self.exposures)


def service_message(service: ServiceConfig) -> messages.Service:
    """A service as messages have it."""
    return messages.Service(
        id=service.id,
        protocol=service.protocol,  # type: ignore[arg-type]
        local_port=service.local_port,
        local_host=service.local_host,
        description=service.description or None,
        mode=service.mode,  # type: ignore[arg-type]
        compression=service.compression or UNSET,  # type: ignore[arg-type]
        bandwidth_up=service.bandwidth_up or UNSET,
        bandwidth_down=service.bandwidth_down or UNSET,
    )
