"""Errors of the package redis, in the words of a user; and URLs, which messages never contain with a password."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from shmsync import InvalidArgumentError, MissingExtraError, ReplicationError
from shmsync.replication import Relay
from shmsync.replication._redis_errors import explain
from shmsync.replication._urls import parse_url, redacted
from shmsync.replication.redis import RedisEngine, check_url

if TYPE_CHECKING:
    from replication.servers import RedisServer

redis = pytest.importorskip("redis")
SECRET = "not-to-be-seen"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (redis.ConnectionError("Error 111 connecting to h:1. Connection refused."), "cannot connect to h:1: Connection refused"),  # noqa: E501
        (redis.ConnectionError("Error while connecting to h:1. timed out"), "cannot connect to h:1: timed out"),
        (redis.ConnectionError("Connection closed by server."), "no connection to the server: Connection closed by server"),  # noqa: E501
        (redis.AuthenticationError("invalid password"), "the server refuses the user or the password: invalid password; "),  # noqa: E501
        (redis.exceptions.NoPermissionError("no permissions"), "the server does not permit this user what is needed: "),
        (redis.ReadOnlyError("You can't write"), "the server is a replica of another one"),
        (redis.OutOfMemoryError("used memory > 'maxmemory'"), "the server has no memory left: used memory"),
        (redis.TimeoutError("Timeout reading"), "the server does not answer: Timeout reading"),
        (redis.BusyLoadingError("loading"), "the server is still loading its data"),
        (redis.exceptions.RedisClusterException("no node"), "the cluster cannot be used: no node"),
        (redis.exceptions.MasterDownError("down"), "the server refuses: down"),
        (redis.ResponseError("WRONGTYPE"), "the server refuses: WRONGTYPE"),
        (redis.DataError("bad"), "DataError: bad"),
        (FileNotFoundError(2, "No such file or directory", "ca.pem"), "FileNotFoundError: No such file or directory"),
    ],
)  # fmt: skip
def test_what_an_error_means(error: Exception, message: str) -> None:
    assert explain(error).startswith(message)


def test_a_payload_is_not_in_the_message() -> None:
    payload = "x\n" * 100_000
    error = redis.ResponseError(f"Command # 1 (SET key {payload} EX 3600) of pipeline caused error: OOM command")
    assert explain(error) == "the server refuses: OOM command"
    assert len(explain(redis.ResponseError(payload))) < 500


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@h",
        f"redis://u:{SECRET}/x@h",
        f"redis://u:x@{SECRET}@h",
        f"redis+sentinel://u:{SECRET}@h,i/s",
    ],
)
def test_a_password_is_not_in_a_message(url: str) -> None:
    assert SECRET not in redacted(f"cannot connect to {url}, again: {url}")
    assert redacted(f"to {url}").startswith("to redis")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "the URL of a server is redis://HOST:PORT"),
        ("", "the URL of a server is redis://HOST:PORT"),
        (None, "the URL of a server is redis://HOST:PORT"),
        (b"redis://h", "the URL of a server is redis://HOST:PORT"),
        ("redis://[::1", "the URL of a server is redis://HOST:PORT"),
        ("http://h", "does not begin with redis://"),
        ("redis://h:x", "is not a number up to 65535"),
        ("redis+sentinel://h:1", "the URL of Sentinels is"),
        ("redis+sentinel://h:x/s", "'h:x' is not HOST:PORT"),
        ("redis://h/0?colour=red", "has an option that is not valid"),
        ("redis://h/0?db=many", "has an option that is not valid"),
        ("redis://h?protocol=9", "has an option that is not valid"),
        ("rediss://h?ssl_cert_reqs=perhaps", "has an option that is not valid"),
        ("redis://h?decode_responses=1", "payloads are not text"),
        ("redis://h/many", "is not a number: 'many'"),
        ("redis://h/1/2", "is not a number: '1/2'"),
        ("redis+sentinel://h:1/s/many", "is not a number: 'many'"),
        ("redis+cluster://h/1", "a cluster has database 0 only"),
        ("redis://:6379", "has no valid host name"),
        ("redis://a..b", "has no valid host name"),
        (f"redis://{'a' * 64}", "has no valid host name"),
        ("redis://a\0b", "has no valid host name"),
    ],
)
def test_urls_that_are_not_valid(url: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message.replace("+", r"\+")):
        check_url(url)
    with pytest.raises(InvalidArgumentError):
        Relay("name", url)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u@h:1/2?ssl_ca_certs=f", "valkey://h", "redis+cluster://[::1]:1"]
)
def test_urls(url: str) -> None:
    check_url(url)
    assert parse_url(url).url.startswith("redis")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'shmsync\[redis\]'"):
        Relay("name", "redis://h")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_is_no_cluster(name: str, server: RedisServer) -> None:
    """The error of the package is not one of its others: it would end the thread of a replica."""
    with pytest.raises(ReplicationError, match="the cluster cannot be used"):
        RedisEngine(server.url.replace("redis:", "redis+cluster:"), name)
    gc.collect()  # now: redis-py leaves the connection to the garbage collector, which warns
