"""Calls that the hub makes: where they may go, and that nothing that answers can harm."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import DefaultLoopResolver, bind_sockets
from tornado.web import Application, RequestHandler

from handlers.outbound import NotReached, check_address, post
from hub.errors import Invalid

OWN = (ip_network("127.0.0.0/8"), ip_network("::1"))


class Service:
    """A server that answers as a path says; `calls` are the paths that were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.waiting = asyncio.Event()
        self.server = HTTPServer(Application([(r"/.*", Answer, {"service": self})], log_function=lambda _: None))
        sockets = bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
        self.server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.waiting.set()
        self.server.stop()
        await self.server.close_all_connections()


class Answer(RequestHandler):
    def initialize(self, service: Service) -> None:
        self.service = service

    async def post(self) -> None:
        self.service.calls.append(self.request.path)
        match self.request.path:
            case "/echo":
                self.set_status(201)
                self.write(self.request.body + self.request.headers["X-Test"].encode())
            case "/away":
                self.redirect("/echo", status=307)
            case "/much":
                self.write(b"x" * 10_000)
            case "/slow":
                await self.service.waiting.wait()
            case "/broken":
                self.detach().close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    yield made
    await made.stop()


async def call(url: str, networks: tuple[Any, ...] = OWN, timeout: float = 5.0) -> tuple[int, bytes]:
    return await post(url, b"body ", {"X-Test": "header"}, timeout, 1000, networks)


async def test_a_call_and_its_answer(service: Service) -> None:
    assert await call(f"http://127.0.0.1:{service.port}/echo") == (201, b"body header")
    assert await call(f"http://localhost:{service.port}/echo") == (201, b"body header")


async def test_p16_a_redirect_is_an_answer(service: Service) -> None:
    assert (await call(f"http://127.0.0.1:{service.port}/away"))[0] == 307
    assert service.calls == ["/away"]


@pytest.mark.parametrize("path", ["/much", "/broken", "/slow"])
async def test_what_never_comes_to_an_end_is_no_answer(service: Service, path: str) -> None:
    with pytest.raises(NotReached):
        await call(f"http://127.0.0.1:{service.port}{path}", timeout=0.5)
    assert service.calls == [path]


async def test_nobody_there() -> None:
    with pytest.raises(NotReached):
        await call("http://127.0.0.1:1/")
    with pytest.raises(NotReached):
        await call("http://no-such-host.invalid/")


async def test_p16_nothing_is_sent_inwards_unless_it_was_allowed(service: Service) -> None:
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433"):
        with pytest.raises(NotReached):
            await call(f"http://{host}:{service.port}/echo", ())
    assert service.calls == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_fault_33_a_name_that_leads_inwards_by_now_is_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch, address: str,
) -> None:
    async def resolve(self: Any, host: str, port: int, family: Any = None) -> list[tuple[int, Any]]:
        assert host == "gpu.example"
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, service.port))]

    monkeypatch.setattr(DefaultLoopResolver, "resolve", resolve)
    with pytest.raises(NotReached, match="INTERFACE_NETWORKS"):
        await call(f"http://gpu.example:{service.port}/echo", ())
    assert service.calls == []


async def test_of_several_addresses_the_allowed_ones_are_called(
    service: Service, monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(self: Any, host: str, port: int, family: Any = None) -> list[tuple[int, Any]]:
        return [(socket.AF_INET, (address, port)) for address in ("10.0.0.1", "127.0.0.1")]

    monkeypatch.setattr(DefaultLoopResolver, "resolve", resolve)
    assert (await call(f"http://gpu.example:{service.port}/echo"))[0] == 201


@pytest.mark.parametrize(("given", "kept"), [
    ("HTTP://GPU.Example:80/", "http://gpu.example"),
    ("https://gpu.example:8443/base/", "https://gpu.example:8443/base"),
    ("http://10.1.2.3:8000", "http://10.1.2.3:8000"), ("http://[2001:db8::1]:80", "http://[2001:db8::1]"),
    ("http://100.64.1.2", "http://100.64.1.2"),
])
def test_an_address_has_one_spelling(given: str, kept: str) -> None:
    assert check_address(given, ()) == kept


@pytest.mark.parametrize("address", [
    "", "gpu", "//gpu", "ftp://gpu", "file:///etc/passwd", "http://", "http://a:b@gpu", "http://gpu?x", "http://gpu#x",
    "http://gpu:99999", "http://g pu", "http://127.0.0.1", "http://localhost", "http://127.1", "http://0x7f000001",
    "http://2130706433", "http://0177.0.0.1", "http://0", "http://[::1]", "http://[::]", "http://[::ffff:127.0.0.1]",
    "http://169.254.1.1", "http://[fe80::1]", "http://224.0.0.1", "http://240.0.0.1", "http://gpu\n",
])
def test_row_128_what_is_no_address_of_a_service(address: str) -> None:
    with pytest.raises(Invalid) as error:
        check_address(address, ())
    assert error.value.code == "bad_url"
