"""The URLs of servers: what they say, and how they are shown."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from shmsync.errors import InvalidArgumentError

_SENTINEL_PORT = 26379
_CREDENTIALS = re.compile(r"//\S*@")


class Server(NamedTuple):
    """What a URL says.

    Attributes:
        kind: "single", "sentinel" or "cluster".
        url: for redis-py: of one server, without the password.
        hosts: of the Sentinels.
        service: name of the service at the Sentinels.
    """

    kind: str
    url: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""


def parse_url(url: str) -> Server:
    """Return what a URL says.

    Raises:
        InvalidArgumentError: it is not valid.
    """
    parts = _split(url)
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in {"redis", "rediss", "valkey", "valkeys"} or kind not in {"", "sentinel", "cluster"}:
        raise InvalidArgumentError(
            f"{redacted(url)!r} does not begin with redis://, rediss://, redis+sentinel:// or redis+cluster://"
        )
    scheme = scheme.replace("valkey", "redis")
    if kind == "sentinel":
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise InvalidArgumentError("the URL of Sentinels is redis+sentinel://HOST:PORT,.../SERVICE")
        _check_database(url, database)
        credentials, _, hosts = parts.netloc.rpartition("@")
        first = hosts.partition(",")[0]
        netloc = f"{credentials}@{first}" if credentials else first
        single = urlunsplit((scheme, netloc, f"/{database}", parts.query, ""))
        return Server("sentinel", single, tuple(map(_host, hosts.split(","))), service)
    try:
        _ = parts.port
    except ValueError:
        raise InvalidArgumentError(f"the port in {redacted(url)!r} is not a number up to 65535") from None
    _check_host(url, parts.hostname)
    _check_database(url, parts.path.strip("/"), last=0 if kind else None)
    return Server(kind or "single", urlunsplit((scheme, parts.netloc, parts.path, parts.query, "")))


def _check_host(url: str, host: str | None) -> None:
    try:
        encoded = (host or "").encode("idna")  # as the resolver does
    except ValueError:
        encoded = b""
    if not encoded or b"\0" in encoded:
        raise InvalidArgumentError(f"{redacted(url)!r} has no valid host name")


def _check_database(url: str, database: str, last: int | None = None) -> None:
    """Raise InvalidArgumentError unless a database is a number: redis-py would use database 0 instead."""
    if database and not (database.isascii() and database.isdecimal()):
        raise InvalidArgumentError(f"the database in {redacted(url)!r} is not a number: {database!r}")
    if last is not None and int(database or 0) > last:
        raise InvalidArgumentError(f"{redacted(url)!r} names database {database}, and a cluster has database 0 only")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except (AttributeError, TypeError, ValueError):
        parts = None
    if parts is None or not isinstance(url, str) or not parts.netloc:
        raise InvalidArgumentError(
            f"the URL of a server is redis://HOST:PORT, rediss:// for TLS, redis+sentinel://HOST:PORT,.../SERVICE or "
            f"redis+cluster://HOST:PORT, not {str(url).rpartition('@')[2]!r}"
        )
    return parts


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(_SENTINEL_PORT))
    if not host or not port.isdecimal():
        raise InvalidArgumentError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def redacted(text: str) -> str:
    """Return a text without the credentials of the URLs in it."""
    return _CREDENTIALS.sub("//", text)
