"""The way between one party and the hub, and what can happen to it.

A cable says where its party finds the hub, where the party listens and where the hub finds it. It is a TCP proxy in
each direction, or, where that is permitted, a network namespace whose only link can be pulled: then packets vanish,
and nobody is told. Knows no message.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Protocol

from tests.ports import free_port

from .proxy import Proxy

FREE_NET = IPv4Network("198.18.0.0/15")  # for tests of networks (RFC 2544)
numbers = count(8 * os.getpid())


class Cable(Protocol):
    """One party's way to the hub and back; `prefix` goes before the party's command."""

    prefix: list[str]
    listen_host: str
    listen_port: int

    @property
    def hub_url(self) -> str: ...

    @property
    def address(self) -> str: ...

    async def lay(self) -> None: ...

    def cut(self, how: str) -> str:
        """Cut it as told, or as it can be; in which way."""

    def mend(self) -> None: ...

    def remove(self) -> None: ...


class ProxyCable:
    """Two proxies, both cut at once."""

    def __init__(self, hub_port: int) -> None:
        self.prefix: list[str] = []
        self.listen_host, self.listen_port = "127.0.0.1", free_port()
        self.out, self.back = Proxy(hub_port), Proxy(self.listen_port)

    @property
    def hub_url(self) -> str:
        return f"http://127.0.0.1:{self.out.port}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.back.port}"

    async def lay(self) -> None:
        for proxy in (self.out, self.back):
            await proxy.start()

    def cut(self, how: str) -> str:
        for proxy in (self.out, self.back):
            proxy.cut(how)
        return how

    def mend(self) -> None:
        for proxy in (self.out, self.back):
            proxy.mend()

    def remove(self) -> None:
        for proxy in (self.out, self.back):
            proxy.stop()


class NamespaceCable:
    """A network namespace of the party's own, with one link to this machine."""

    def __init__(self, hub_port: int) -> None:
        number = next(numbers)
        net = int(FREE_NET.network_address) + 4 * (number % (FREE_NET.num_addresses // 4))
        self.here, self.there = IPv4Address(net + 1), IPv4Address(net + 2)
        self.name, self.link, self.end = f"chaos-{number}", f"ch{number}", f"cp{number}"
        self.prefix = ["ip", "netns", "exec", self.name]
        self.listen_host, self.listen_port = str(self.there), 7000
        self.hub_url = f"http://{self.here}:{hub_port}"
        self.address = f"http://{self.there}:{self.listen_port}"

    async def lay(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", self.end, "netns", self.name)
        ip("addr", "add", f"{self.here}/30", "dev", self.link)
        ip("link", "set", self.link, "up")
        for words in (("addr", "add", f"{self.there}/30", "dev", self.end), ("link", "set", self.end, "up"),
                      ("link", "set", "lo", "up")):
            ip("-n", self.name, *words)

    def cut(self, how: str) -> str:
        ip("link", "set", self.link, "down")
        return "unplugged"

    def mend(self) -> None:
        ip("link", "set", self.link, "up")

    def remove(self) -> None:
        ip("link", "del", self.link)
        ip("netns", "del", self.name)


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def namespaces_are_permitted() -> bool:
    """Whether this machine lets us make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    cable = NamespaceCable(0)
    try:
        ip("netns", "add", cable.name)
        try:
            ip("link", "add", cable.link, "type", "veth", "peer", "name", cable.end, "netns", cable.name)
            ip("link", "del", cable.link)
        finally:
            ip("netns", "del", cable.name)
    except subprocess.CalledProcessError:
        return False
    return True
