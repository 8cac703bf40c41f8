"""Which addresses pages may be fetched from: checked when a name has been resolved, and the very ones connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from knowledge_base.errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# The addresses of a host, as text.
Lookup = Callable[[str], Awaitable[list[str]]]
_RELAYS = ipaddress.ip_network("192.88.99.0/24")  # of 6to4, given up; leads to whoever announces it
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


async def system_lookup(host: str) -> list[str]:
    """As this machine resolves names."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: Address) -> bool:
    """Whether it is an ordinary address of the internet, and does not stand for one that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local:
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address not in _RELAYS and address.is_global and not address.is_multicast and not address.is_reserved


class CheckedResolver(AbstractResolver):
    """Gives a connection only addresses that it may be made to; `Refused` (private_address) when one may not."""

    def __init__(self, allowed: frozenset[str], lookup: Lookup = system_lookup) -> None:
        self._allowed = allowed
        self._lookup = lookup

    def check(self, host: str, addresses: list[str]) -> None:
        """Refuse a host with an address that is not public, unless it is listed."""
        if host.lower().rstrip(".") in self._allowed:
            return
        for text in addresses:
            if not is_public(ipaddress.ip_address(text.partition("%")[0])):
                raise Refused("private_address", f"{host} is on a private network; KB_ALLOWED_HOSTS would allow it")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host)
        self.check(host, addresses)
        return [
            ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for text in addresses
        ]

    async def close(self) -> None:
        """Nothing is held open."""
