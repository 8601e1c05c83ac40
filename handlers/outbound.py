"""Calls that the hub makes: to interface services, at addresses that an admin let in, and nowhere else.

Owns which addresses may be called, and that it is decided at the moment of connecting. Never follows a redirect, never
reads more than it was told to, and takes no proxy from the environment.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest
from tornado.netutil import DefaultLoopResolver, Resolver
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from hub import parsing
from hub.errors import Invalid
from hub.parsing import Network

MAX_HEADERS = 16 * 1024
NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)  # what C libraries take as a part of an IPv4 address


class NotReached(Exception):
    """No whole answer came: refused, timed out, too long, not allowed; the text says which."""


async def post(
    url: str, body: bytes, headers: Mapping[str, str], timeout: float, max_bytes: int,
    networks: tuple[Network, ...] = (),
) -> tuple[int, bytes]:
    """POST to an interface service, without following redirects; the status and at most `max_bytes` of body.

    `networks` are private ones that may be called too, `timeout` is seconds for all of it.

    Raises:
        NotReached: there is no answer, or there may be none from there.
    """
    client = SimpleAsyncHTTPClient(
        force_instance=True, resolver=AllowedOnly(networks), max_clients=1, max_body_size=max_bytes,
        max_header_size=MAX_HEADERS,
    )
    request = HTTPRequest(
        url, "POST", dict(headers), body, follow_redirects=False, connect_timeout=timeout, request_timeout=timeout,
        decompress_response=False, allow_nonstandard_methods=True,
    )
    try:
        check_address(url, networks)
        answering = client.fetch(request, raise_error=False)
        answering.add_done_callback(asyncio.Future.exception)  # who stopped waiting does not want to know
        await asyncio.wait([answering])  # a fetch that is cancelled itself would complain in the log when it ends
        answer = answering.result()
        return answer.code, answer.body
    except Exception as error:  # a service can answer with anything, and break off anywhere
        raise NotReached(f"{type(error).__name__}: {error}"[:300]) from None
    finally:
        client.close()


class AllowedOnly(Resolver):
    """Looks names up and keeps only the addresses that may be called: what is checked is what is connected to."""

    def initialize(self, networks: tuple[Network, ...]) -> None:
        self.networks = networks
        self.resolver = DefaultLoopResolver()

    def close(self) -> None:
        self.resolver.close()

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        literal = literal_address(host) is not None
        found = [(kind, place) for kind, place in await self.resolver.resolve(host, port, family)
                 if allowed(ip_address(place[0].partition("%")[0]), self.networks, literal)]
        if not found:
            raise OSError(f"{host} leads to an address that INTERFACE_NETWORKS does not allow")
        return found


def allowed(address: IPv4Address | IPv6Address, networks: tuple[Network, ...], literal: bool) -> bool:
    """Whether the hub may connect there: given networks, public addresses, and others that are spelled out."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in networks):
        return True
    inward = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if inward or address.is_reserved:
        return False
    return literal or address.is_global


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` spells out in the one usual way, or None."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def check_address(url: str, networks: tuple[Network, ...]) -> str:
    """An interface service's address in its one spelling, if it can be one.

    Raises:
        Invalid: code bad_url: not http or https, with a user, a query or a fragment, an odd spelling of a number, or
            an address that the hub never calls.
    """
    try:
        address = parsing.url(url)
        split = urlsplit(address)
        host = split.hostname or ""
        literal = literal_address(host)
        if literal is None and NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise ValueError("a number that is no usual address")
        if literal is not None and not allowed(literal, networks, True):
            raise ValueError("an address that INTERFACE_NETWORKS does not allow")
        if host.rstrip(".") == "localhost" and not allowed(IPv4Address("127.0.0.1"), networks, True):
            raise ValueError("an address that INTERFACE_NETWORKS does not allow")
    except ValueError as error:
        raise Invalid(f"not the address of an interface service: {error}", code="bad_url") from None
    return address
