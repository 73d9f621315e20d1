"""What a client tells a server of its services: the configuration, in the words of the wire."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from ..config import ServiceConfig
from ..wire.messages import Exposure, Service, UpdateServices


class Offer:
    """
    What each login registers.

    @ivar services: all that there are.
    @ivar exposures: those of them that are to be public.
    """

    def __init__(self, configured: Iterable[ServiceConfig]) -> None:
        self.use(configured)

    def use(self, configured: Iterable[ServiceConfig]) -> None:
        """These are offered from now on."""
        services = tuple(configured)
        self.services = services_of(services)
        self.exposures = exposures_of(services)

    def update(self) -> UpdateServices:
        """What a server has to be told for it to hold at once."""
        return UpdateServices(services=self.services, exposures=self.exposures)


def services_of(configured: Iterable[ServiceConfig]) -> tuple[Service, ...]:
    """What it offers."""
    return tuple(
        Service(
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
        for service in configured
    )


def exposures_of(configured: Iterable[ServiceConfig]) -> tuple[Exposure, ...]:
    """Which of its services are to be public, and how."""
    return tuple(
        Exposure(
            service=service.id,
            remote_port=UNSET if public.remote_port is None else public.remote_port,
            custom_domains=public.custom_domains,
            subdomain=public.subdomain or "",
            locations=public.locations,
            host_header_rewrite=public.host_header_rewrite or "",
            request_headers=public.request_headers,
            response_headers=public.response_headers,
            http_user=public.http_user or "",
            http_password=public.http_password or "",
            proxy_protocol=public.proxy_protocol or UNSET,  # type: ignore[arg-type]
            group=public.group or "",
            group_key=public.group_key or "",
            balance=public.balance,  # type: ignore[arg-type]
        )
        for service in configured
        if (public := service.public) is not None
    )
