"""A small web server for metrics and health checks, in threads. It answers GET and HEAD of a few pages."""

from __future__ import annotations

import logging
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger("shmsync.replication")
_TIMEOUT = 10  # seconds until a client that sends or takes nothing is disconnected


class Page(NamedTuple):
    """An answer.

    Attributes:
        status: status code of HTTP.
        kind: its Content-Type.
        body: the contents.
    """

    status: int
    kind: str
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT
    server: _Server

    def do_GET(self) -> None:
        page = self._page()
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET  # noqa: N815 - as above

    def _page(self) -> Page:
        render = self.server.pages.get(self.path.partition("?")[0])
        if render is None:
            return Page(404, "text/plain", f"there is {', '.join(self.server.pages)}\n".encode())
        try:
            return render()
        except Exception:
            log.exception("cannot answer %s", self.path)
            return Page(500, "text/plain", b"an error, which is in the log\n")

    def version_string(self) -> str:
        return "shmsync"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of the base class
        log.debug(format, *args)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, family: socket.AddressFamily, address: tuple[str, int], pages: Mapping[str, Callable[[], Page]]
    ) -> None:
        self.address_family = family
        self.pages = pages
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - that of the base class
        log.debug("the connection of %s ended", client_address)


@contextmanager
def serving(host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> Iterator[None]:
    """Serve pages while the block runs.

    Args:
        host: the address to listen on.
        port: the port; 0 for one that is free.
        pages: by path, a function that returns the page.

    Raises:
        OSError: this process cannot listen there.
    """
    import socket  # noqa: PLC0415 - for this server only

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        server = _Server(family, (str(address[0]), int(address[1])), pages)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on port {port}: {error.strerror}", host) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, name="shmsync http", daemon=True)
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        for path in pages:
            log.info("serving http://%s:%d%s", shown, server.server_address[1], path)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
