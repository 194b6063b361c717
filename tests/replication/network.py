"""Two hosts, stood for by network namespaces, and a network between them that can be slow, lossy or cut.

The namespaces have no name and belong to one process, so the kernel removes them when this process ends, however it
does. The process also is the network: it moves the packets from one TUN device to the other, after a delay, or drops
them. Losses are those of a seeded generator. (`tc netem` does the same, but few kernels have it built in.)

The hosts share the file system and /dev/shm; the test reaches their servers through Unix sockets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers import Child, State, command_works

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

ADDRESSES = ("10.77.0.1", "10.77.0.2")
"""The addresses of the first and of the second host; the same in each test, because no other process can reach them."""

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
DEVICE = "wire"
MTU = 9000
LONGEST_QUEUE = 2000  # packets in each direction; more are dropped, as by a router
BATCH = 64


class Quality(NamedTuple):
    """How the network treats packets, in both directions.

    Attributes:
        delay: seconds that each packet takes.
        loss: the part of the packets that is lost, 0 to 1.
        rate: bytes per second; 0 is unlimited.
    """

    delay: float = 0.0
    loss: float = 0.0
    rate: float = 0.0


PERFECT = Quality()
CUT = Quality(loss=1.0)
"""All packets vanish; no process sees an error before its own timeout."""


def reason_to_skip() -> str | None:
    """Return why there can be no network namespaces here; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not command_works("unshare", "--net", "ip", "link") or not command_works("nsenter", "--version"):
        return "network namespaces need the commands ip, unshare and nsenter, and the permission to use them"
    if not Path("/dev/net/tun").exists():
        return "network namespaces need /dev/net/tun"
    return None


class Network:
    """The network and its two hosts, as a context manager.

    Args:
        seed: decides which packets are lost.
    """

    def __init__(self, seed: int) -> None:
        self._process = Child()
        self._seed = seed
        self._namespaces: list[int] = []

    def command(self, host: int) -> list[str]:
        """Return the prefix of a command that runs on a host, 0 or 1. The process keeps its pid."""
        return ["nsenter", f"--net=/proc/{self._process.pid}/fd/{self._namespaces[host]}"]

    def set(self, quality: Quality) -> None:
        """Change what happens to the packets from now on."""
        self._process.call(set_quality, quality)

    def dropped(self) -> int:
        """Return the number of packets dropped so far."""
        return self._process.call(count_dropped)

    def __enter__(self) -> Self:
        self._process.__enter__()
        try:
            self._namespaces = self._process.call(connect, self._seed)
        except BaseException as error:
            self._process.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.__exit__(exc_type, exc, tb)


# ------------------------------------------------------------------------------------- in the process of the network


def connect(state: State, seed: int) -> list[int]:
    """Create both namespaces and start to move packets; return the descriptors of the namespaces."""
    hosts = [_create_host(address) for address in ADDRESSES]
    (first, second) = (device for _, device in hosts)
    state.directions = (_Direction(first, second, random.Random(seed)), _Direction(second, first, random.Random(~seed)))
    threading.Thread(target=_move, args=[state.directions], daemon=True).start()
    return [namespace for namespace, _ in hosts]


def set_quality(state: State, quality: Quality) -> None:
    for direction in state.directions:
        direction.quality = quality


def count_dropped(state: State) -> int:
    return sum(direction.dropped for direction in state.directions)


def _create_host(address: str) -> tuple[int, int]:
    """Move this process to a new namespace; return the descriptors of the namespace and of its TUN device."""
    import fcntl  # noqa: PLC0415 - the helpers of this directory are imported by tests that do not need it

    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot create a network namespace")
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        ["ip", "addr", "add", f"{address}/24", "dev", DEVICE],
        ["ip", "link", "set", DEVICE, "up", "mtu", str(MTU)],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True)
    return namespace, device


class _Direction:
    """Packets from one device to the other, in order."""

    def __init__(self, source: int, target: int, generator: random.Random) -> None:
        self.quality = PERFECT
        self.dropped = 0
        self.source = source
        self._target = target
        self._random = generator
        self._queue: deque[tuple[float, bytes]] = deque()
        self._last_departure = 0.0

    def receive(self) -> None:
        """Queue the packets that have arrived."""
        with suppress(BlockingIOError):
            for _ in range(BATCH):
                packet = os.read(self.source, MTU)
                quality = self.quality
                if len(self._queue) >= LONGEST_QUEUE or self._random.random() < quality.loss:
                    self.dropped += 1
                    continue
                departure = time.monotonic()
                if quality.rate:
                    departure = max(departure, self._last_departure) + len(packet) / quality.rate
                    self._last_departure = departure
                self._queue.append((departure + quality.delay, packet))

    def send(self) -> float | None:
        """Deliver the packets that are due; return in how many seconds the next one is, None if there is none."""
        while self._queue:
            left = self._queue[0][0] - time.monotonic()
            if left > 0:
                return left
            _, packet = self._queue.popleft()
            try:
                os.write(self._target, packet)
            except OSError as error:
                if error.errno not in {errno.EIO, errno.EINVAL, errno.ENOBUFS, errno.EAGAIN}:
                    raise
                self.dropped += 1
        return None


def _move(directions: tuple[_Direction, _Direction]) -> None:
    by_source = {direction.source: direction for direction in directions}
    while True:
        due = [left for left in (direction.send() for direction in directions) if left is not None]
        for source in select.select(list(by_source), [], [], min(due, default=None))[0]:
            by_source[source].receive()
