"""A port on which something else than Redis answers: both sides say so, and continue to try."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from helpers import until

from shmsync.replication import Publisher, Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("redis")


@contextmanager
def service(answer: bytes) -> Iterator[str]:
    """A service that gives the same answer to all it receives; yields a URL."""

    def answer_all(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(1 << 16):
                connection.sendall(answer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer_all, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b":number\r\n",
        b"$length\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n*2\r\n$3\r\n7-1\r\n$-1\r\n",
        b"-\xff\xfe\r\n",
        b"*-1\r\n",
    ],
)
def test_another_service(name: str, local: str, answer: bytes) -> None:
    with (
        service(answer) as url,
        Publisher[int](name, url, linger=0) as publisher,
        Replica(name, url, local_name=local) as replica,
    ):
        publisher.write(1)
        for each in (publisher, replica):
            until(lambda each=each: each.status().error is not None)  # type: ignore[misc]
            assert "server" in str(each.status().error)
        assert publisher._relay.is_running
        assert replica.is_running
