"""iceoryx2: its blackboard, and its publish-subscribe. All files have a prefix, so that they can be removed.

The blackboard has one entry of a fixed size, written in place; readers copy it if it has changed. `Blocks` has an entry
for each 64 rows of a row map: a row is changed and read with its block. It has no entry for each row, since the time to
create entries and to open them grows with the square of their number, and takes seconds for a thousand of them.

Samples of publish-subscribe are loaned, filled in place, and borrowed by readers without a copy. A buffer of one
sample, which overflows, has the newest value. Readers that attach later get it from a history of one sample, when the
publisher updates its connections; each `write` does that, too.
"""

from __future__ import annotations

import ctypes
from typing import Any

import iceoryx2
import numpy as np

from bench.names import SHM, new_name, remove
from bench.peers import base
from bench.values import COLUMNS

_BYTES = iceoryx2.Slice[ctypes.c_uint8]
_LENGTH = ctypes.sizeof(ctypes.c_uint64)
_BLOCK = 64


class _Block(ctypes.Structure):
    _fields_ = (("rows", ctypes.c_float * COLUMNS * _BLOCK),)


def _node(prefix: str) -> Any:
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    config = iceoryx2.config.default()
    config.global_cfg.prefix = iceoryx2.FileName.new(f"{prefix}-")
    config.global_cfg.root_path = iceoryx2.Path.new(str(SHM / prefix))
    return iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)


def _service(node: Any) -> Any:
    return node.service_builder(iceoryx2.ServiceName.new("value"))


def _event(node: Any) -> Any:
    return node.service_builder(iceoryx2.ServiceName.new("changed")).event().open_or_create()


def _remove_all(prefix: str) -> None:
    for path in (SHM / prefix, *SHM.glob(f"{prefix}-*")):  # the lock of the cleaner, and files of killed readers
        remove(path)


def _entry_of(size: int) -> type[ctypes.Structure]:
    fields = [("length", ctypes.c_uint64), ("data", ctypes.c_uint8 * size)]
    return type("Entry", (ctypes.Structure,), {"_fields_": fields})


class BlackboardWriter(base.Writer):
    def __init__(self, _: str, size: int) -> None:
        self._name = new_name("iceoryx")
        self.address = self._name, base.capacity(size)
        self._node = _node(self._name)
        entry, key = _entry_of(self.address[1]), ctypes.c_uint64(0)
        self._service = _service(self._node).blackboard_creator(ctypes.c_uint64).add(key, entry()).create()
        self._writer = self._service.writer_builder().create()
        self._entry = self._writer.entry(key, entry)

    def write(self, value: Any) -> None:
        loan = self._entry.loan_uninit()
        entry = loan.value_mut().contents
        entry.length = base.copy_into(memoryview(entry.data).cast("B"), base.encode(value))
        self._entry = loan.assume_init_and_update()

    def close(self) -> None:
        self._entry.delete()
        del self._entry, self._writer, self._service, self._node
        _remove_all(self._name)


class BlackboardReader(base.Reader):
    def __init__(self, shape: str, address: tuple[str, int]) -> None:
        self._shape = shape
        self._node = _node(address[0])
        self._service = _service(self._node).blackboard_opener(ctypes.c_uint64).open()
        self._reader = self._service.reader_builder().create()
        self._entry = self._reader.entry(ctypes.c_uint64(0), _entry_of(address[1]))
        self._is_up_to_date = self._entry.is_up_to_date

    def get(self) -> Any:
        if self._seen is None or not self._is_up_to_date(self._seen):
            self._seen = copy = self._entry.get()
            length = int.from_bytes(copy.data[:_LENGTH], "little")
            self._value = base.decode(self._shape, memoryview(copy.data)[_LENGTH : _LENGTH + length])
        return self._value

    def close(self) -> None:
        del self._is_up_to_date, self._entry, self._reader, self._service, self._node


class BlocksWriter(base.Writer):
    """Writes each block that has a changed row; the caller changes the array that was written first."""

    def __init__(self, *_: Any) -> None:
        self.address = new_name("iceoryx")
        self._node = _node(self.address)
        self._entries: list[Any] = []

    def write(self, value: Any) -> None:
        self._rows = value.values
        creator = _service(self._node).blackboard_creator(ctypes.c_uint64)
        keys = [ctypes.c_uint64(number) for number in range(len(self._rows) // _BLOCK)]
        for key in keys:
            creator = creator.add(key, _Block.from_buffer_copy(self._block(key.value)))
        self._service = creator.create()
        self._writer = self._service.writer_builder().create()
        self._entries = [self._writer.entry(key, _Block) for key in keys]

    def _block(self, number: int) -> Any:
        return self._rows[number * _BLOCK : (number + 1) * _BLOCK]

    def update(self, part: Any) -> None:
        for number in np.unique(part.keys // _BLOCK).tolist():
            loan = self._entries[number].loan_uninit()
            np.ctypeslib.as_array(loan.value_mut().contents.rows)[:] = self._block(number)
            self._entries[number] = loan.assume_init_and_update()

    def close(self) -> None:
        for entry in self._entries:
            entry.delete()
        self._entries.clear()
        del self._writer, self._service, self._node
        _remove_all(self.address)


class BlocksReader(base.Reader):
    """Copies a block if it has changed since it was read last."""

    def __init__(self, _: str, address: str) -> None:
        self._node = _node(address)
        self._service = _service(self._node).blackboard_opener(ctypes.c_uint64).open()
        self._reader = self._service.reader_builder().create()
        self._blocks: dict[int, tuple[Any, Any]] = {}

    def get(self) -> Any:
        return self

    def look_up(self, _: Any, key: Any) -> Any:
        number, row = divmod(key, _BLOCK)
        entry, copy = self._blocks.get(number, (None, None))
        if entry is None:
            entry = self._reader.entry(ctypes.c_uint64(number), _Block)
        if copy is None or not entry.is_up_to_date(copy):
            copy = entry.get()
            self._blocks[number] = entry, copy
        return np.frombuffer(copy.data, np.float32, COLUMNS, row * 4 * COLUMNS)

    def close(self) -> None:
        self._blocks.clear()
        del self._reader, self._service, self._node


class PubSubWriter(base.Writer):
    _notifier: Any = None

    def __init__(self, _: str, size: int) -> None:
        self.address = new_name("iceoryx")
        self._node = _node(self.address)
        builder = _service(self._node).publish_subscribe(_BYTES).max_publishers(1).history_size(1)
        builder = builder.enable_safe_overflow(True)  # noqa: FBT003 - its only parameter
        builder = builder.subscriber_max_buffer_size(1).subscriber_max_borrowed_samples(2)
        self._service = builder.payload_alignment(iceoryx2.Alignment.new(64)).create()
        self._publisher = self._service.publisher_builder().initial_max_slice_len(base.capacity(size)).create()

    def refresh(self) -> None:
        self._publisher.update_connections()

    def notify(self) -> None:
        self._notifier = _event(self._node).notifier_builder().create()

    def write(self, value: Any) -> None:
        buffers = base.encode(value)
        sample = self._publisher.loan_slice_uninit(sum(map(len, buffers)))
        base.copy_into(sample.payload().as_memory_view().cast("B"), buffers)
        sample.assume_init().send()
        if self._notifier is not None:
            self._notifier.notify()

    def close(self) -> None:
        self._publisher.delete()
        self._notifier = None
        del self._publisher, self._service, self._node
        _remove_all(self.address)


class PubSubReader(base.Reader):
    """Borrows a sample until it gets the next one: a value is valid until then."""

    _listener: Any = None

    def __init__(self, shape: str, address: str) -> None:
        self._shape = shape
        self._node = _node(address)
        self._service = _service(self._node).publish_subscribe(_BYTES).open()
        self._subscriber = self._service.subscriber_builder().create()
        self._receive = self._subscriber.receive

    def get(self) -> Any:
        sample = self._receive()
        if sample is not None:
            self._value = base.decode(self._shape, sample.payload().as_memory_view().cast("B"))
            if self._seen is not None:
                self._seen.delete()
            self._seen = sample
        return self._value

    def wait(self, timeout: float) -> None:
        if self._listener is None:
            self._listener = _event(self._node).listener_builder().create()
        self._listener.timed_wait(iceoryx2.Duration.from_secs_f64(timeout))

    def close(self) -> None:
        self._value = self._listener = None
        if self._seen is not None:
            self._seen.delete()
        self._subscriber.delete()
        del self._receive, self._subscriber, self._service, self._node
