"""iceoryx2's blackboard: one entry of fixed size, written in place; readers copy it if it is not up to date."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from benchmark.peers import iceoryx
from benchmark.peers._values import fill, loaded, pieces, room

if TYPE_CHECKING:
    from benchmark.peers import Shape

_LENGTH = ctypes.sizeof(ctypes.c_uint64)


def _entry_of(size: int) -> type[ctypes.Structure]:
    fields = [("length", ctypes.c_uint64), ("data", ctypes.c_uint8 * size)]
    return type("Entry", (ctypes.Structure,), {"_fields_": fields})


class Writer:
    """Loans the cell that is not read, fills it, and makes it the newest."""

    def __init__(self, _: Shape, size: int) -> None:
        self._name, self._room = iceoryx.name(), room(size)
        self._node = iceoryx.node(self._name)
        entry, key = _entry_of(self._room), ctypes.c_uint64(0)
        creator = iceoryx.service(self._node).blackboard_creator(ctypes.c_uint64)
        self._service = creator.add(key, entry()).create()
        self._writer = self._service.writer_builder().create()
        self._entry = self._writer.entry(key, entry)

    @property
    def address(self) -> tuple[str, int]:
        """Return name and size."""
        return self._name, self._room

    def write(self, value: Any) -> None:
        """Write it in place."""
        loan = self._entry.loan_uninit()
        entry = loan.value_mut().contents
        entry.length = fill(memoryview(entry.data).cast("B"), pieces(value))
        self._entry = loan.assume_init_and_update()

    def close(self) -> None:
        """Remove the service."""
        self._entry.delete()
        del self._entry, self._writer, self._service, self._node
        iceoryx.remove(self._name)


class Reader:
    """Copies the entry if it is not up to date."""

    def __init__(self, shape: Shape, address: tuple[str, int]) -> None:
        self._shape = shape
        self._node = iceoryx.node(address[0])
        self._service = iceoryx.service(self._node).blackboard_opener(ctypes.c_uint64).open()
        self._reader = self._service.reader_builder().create()
        self._entry = self._reader.entry(ctypes.c_uint64(0), _entry_of(address[1]))
        self._is_up_to_date = self._entry.is_up_to_date
        self._copy: Any = None
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, copied if it is another one."""
        if self._copy is None or not self._is_up_to_date(self._copy):
            self._copy = copy = self._entry.get()
            length = int.from_bytes(copy.data[:_LENGTH], "little")
            self._value = loaded(self._shape, memoryview(copy.data)[_LENGTH : _LENGTH + length])
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in the copy."""
        return found[key]

    def close(self) -> None:
        """Detach."""
        del self._is_up_to_date, self._entry, self._reader, self._service, self._node
