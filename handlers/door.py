"""Who may knock: host names, origins and addresses as they come in, before anybody asks who it is.

Owns which names the hub answers to, whose pages may call it and which address a client has behind proxies.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from hub.errors import Invalid
from hub.settings import Settings

MAX_HEADERS = 64 * 1024  # bytes of all header lines together


def check_host(host: str, settings: Settings) -> None:
    """Refuse requests that were meant for another name: the guard against DNS rebinding.

    An address instead of a name cannot be rebound, so every address is fine.

    Raises:
        Invalid: with code bad_host.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if name not in known_names(settings) and not is_address(name):
        raise Invalid("this hub does not answer to that host name", code="bad_host")


def known_names(settings: Settings) -> set[str]:
    """The names this hub answers to: its own, the front-end's, and this machine's for itself."""
    names = {urlsplit(url).hostname or "" for url in (settings.api_base_url, settings.frontend_url)}
    return names | {"localhost", settings.bind}


def may_call(origin: str, host: str, settings: Settings) -> bool:
    """Whether a page of `origin` may use the API and live sockets: ours, the configured ones, no other."""
    try:
        return origin in settings.origins or urlsplit(origin).netloc == host
    except ValueError:
        return False


def check_headers(headers: HTTPHeaders) -> None:
    """Refuse a request whose header lines are too long together.

    Raises:
        Invalid: with code headers_too_large.
    """
    if sum(len(name) + len(value) + 4 for name, value in headers.get_all()) > MAX_HEADERS:
        raise Invalid(f"at most {MAX_HEADERS} bytes of headers", code="headers_too_large")


def check_query(request: HTTPServerRequest) -> None:
    """Refuse a query that is not UTF-8.

    Raises:
        Invalid: with code bad_query.
    """
    try:
        for values in request.query_arguments.values():
            for value in values:
                value.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("the query string is not UTF-8", code="bad_query") from None


def client_address(request: HTTPServerRequest, settings: Settings) -> str:
    """The address of the client itself: what the outermost of the trusted proxies says, nobody else's word.

    Each proxy adds whom it heard from at the end of X-Forwarded-For; the part that came from beyond the first
    untrusted address is whatever the client wrote.
    """
    address = request.remote_ip or ""
    hops = [hop.strip() for line in request.headers.get_list("X-Forwarded-For") for hop in line.split(",")]
    while hops and is_trusted(address, settings) and is_address(hops[-1]):
        address = hops.pop()
    return address


def is_trusted(address: str, settings: Settings) -> bool:
    """Whether this is a proxy of ours."""
    return is_address(address) and any(ip_address(address) in network for network in settings.trusted_proxies)


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
