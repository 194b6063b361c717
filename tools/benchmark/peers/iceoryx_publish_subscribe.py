"""iceoryx2's publish-subscribe: samples are loaned, filled in place, and borrowed by readers, with no copy.

A buffer of one sample, which overflows, holds the newest. The history of one is for readers that come later; they get
it when the publisher looks for them, which it does in each `write`.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import iceoryx2

from benchmark.peers import iceoryx
from benchmark.peers._values import fill, loaded, pieces, room

if TYPE_CHECKING:
    from benchmark.peers import Shape

_BYTES = iceoryx2.Slice[ctypes.c_uint8]


class Writer:
    """Publishes."""

    def __init__(self, _: Shape, size: int) -> None:
        self._name = iceoryx.name()
        self._node = iceoryx.node(self._name)
        builder = iceoryx.service(self._node).publish_subscribe(_BYTES).max_publishers(1).history_size(1)
        builder = builder.enable_safe_overflow(True)  # noqa: FBT003 - as it is called
        builder = builder.subscriber_max_buffer_size(1).subscriber_max_borrowed_samples(2)
        self._service = builder.payload_alignment(iceoryx2.Alignment.new(64)).create()
        self._publisher = self._service.publisher_builder().initial_max_slice_len(room(size)).create()

        self._notifier: Any = None

    def welcome(self) -> None:
        """Look for readers that have come, and give them the history."""
        self._publisher.update_connections()

    def announce(self) -> None:
        """Send an event with each value."""
        self._notifier = iceoryx.event(self._node).notifier_builder().create()

    @property
    def address(self) -> str:
        """Return the name."""
        return self._name

    def write(self, value: Any) -> None:
        """Loan as much as it takes, fill, send."""
        buffers = pieces(value)
        sample = self._publisher.loan_slice_uninit(sum(map(len, buffers)))
        fill(sample.payload().as_memory_view().cast("B"), buffers)
        sample.assume_init().send()
        if self._notifier is not None:
            self._notifier.notify()

    def close(self) -> None:
        """Remove the service."""
        self._publisher.delete()
        del self._notifier, self._publisher, self._service, self._node
        iceoryx.remove(self._name)


class Reader:
    """Borrows a sample until it gets the next one; what it has handed out must not be used after that."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._shape = shape
        self._node = iceoryx.node(address)
        self._service = iceoryx.service(self._node).publish_subscribe(_BYTES).open()
        self._subscriber = self._service.subscriber_builder().create()
        self._receive = self._subscriber.receive
        self._listener: Any = None
        self._sample: Any = None
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, in place if it is not a config."""
        sample = self._receive()
        if sample is not None:
            self._value = loaded(self._shape, sample.payload().as_memory_view().cast("B"))
            if self._sample is not None:
                self._sample.delete()
            self._sample = sample
        return self._value

    def wait(self, timeout: float) -> None:
        """Wait for an event."""
        if self._listener is None:
            self._listener = iceoryx.event(self._node).listener_builder().create()
        self._listener.timed_wait(iceoryx2.Duration.from_secs_f64(timeout))

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in place."""
        return found[key]

    def close(self) -> None:
        """Give the sample back, and detach."""
        self._value = None
        if self._sample is not None:
            self._sample.delete()
        self._subscriber.delete()
        del self._listener, self._receive, self._subscriber, self._service, self._node
