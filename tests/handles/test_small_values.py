"""Small plain values are copied out of their page without a pin: whole, in order, and decoded once per version."""

from __future__ import annotations

import random
from typing import Any

import pytest
from helpers import TIMEOUT, Child, State

from shmsync import DataReadError, EntityReadError, Reader, Writer
from shmsync._core import protocol
from shmsync._core.layout import PAGE, PAYLOAD_AT, checksum_of
from shmsync._session import mapping as mapping_module
from shmsync._session.attachment import Attachment
from shmsync._shm import atomics

CHANGES = 5000


@pytest.fixture(params=[True, False], ids=["ordered loads", "other machines"])
def _either_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shmsync._session.mapping.IS_TSO", request.param and atomics.IS_TSO)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions that were pinned."""
    seqs: list[int] = []
    pin_and_map, pin_at_once = protocol.pin_and_map, Attachment.pin_at_once

    def with_mapping(*args: Any) -> Any:
        found: Any = pin_and_map(*args)
        seqs.append(found[1])
        return found

    def at_once(attachment: Attachment) -> Any:
        found = pin_at_once(attachment)
        if found is not None:
            seqs.append(found[2].seq)
        return found

    monkeypatch.setattr(protocol, "pin_and_map", with_mapping)
    monkeypatch.setattr(Attachment, "pin_at_once", at_once)
    return seqs


def publish_without_pause(_state: State, name: str, seed: int) -> int:
    """Publish until told to stop; each value contains the checksum of its content."""
    rng = random.Random(seed)
    with Writer(name) as writer, Reader[bool](f"{name}-done") as done:
        number = 0
        while not done.get(default=None):
            number += 1
            content = rng.randbytes(rng.randrange(3000))
            writer.write({"number": number, "content": content, "sum": checksum_of(content)})
    return number


def test_values_are_whole_and_in_order(name: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with Child() as child, Writer(f"{name}-done") as done, Reader[Any](name, timeout=TIMEOUT) as reader:
        child.send(publish_without_pause, name, seed)
        last: dict[str, Any] = {"number": 0}
        for _ in range(CHANGES):
            while (value := reader.get()) is last:
                pass
            assert checksum_of(value["content"]) == value["sum"]
            assert value["number"] > last["number"]
            last = value
        done.write(True)  # noqa: FBT003 - a value
        assert child.receive() >= last["number"]
        done.unlink()
        with Writer(name) as again:
            again.unlink()


@pytest.mark.usefixtures("_either_machine")
def test_a_small_value_is_not_pinned(writer: Writer, name: str, pinned: list[int]) -> None:
    with Reader[int](name) as reader:
        for number in range(6):
            writer.write(number)
            assert reader.get() == number
    expected = [1, 2] if vars(mapping_module)["IS_TSO"] else [1, 2, 3, 4, 5, 6]  # to map each segment
    assert pinned == expected


def test_replaced_memory_is_unmapped(writer: Writer, name: str) -> None:
    with Reader[Any](name) as reader:
        for large in range(2):  # both segments are large and mapped
            writer.write([large, bytes(20 * PAGE)])
            assert reader.get()[0] == large
        writer.write(1)
        writer.write(2)  # both are small now
        assert reader.get() == 2
        writer.write(3)
        assert reader.get() == 3  # has them both mapped
        writer.write([4, bytes(20 * PAGE)])  # in the segment of 2
        writer.write(5)
        assert reader.get() == 5
        assert reader._attachment is not None
        (mapping,) = [mapping for mapping in reader._attachment._mappings if mapping is not None]
        assert mapping.size == PAGE


@pytest.mark.skipif(not atomics.IS_TSO, reason="nothing is copied without a pin")
def test_a_copy_is_dropped_if_a_signal_handler_has_mapped_other_memory(writer: Writer, name: str) -> None:
    with Reader[int](name) as reader:
        for number in range(3):
            writer.write(number)
            assert reader.get() == number
        seq = writer.write(3).version.seq
        attachment = reader._attachment
        assert attachment is not None
        mapping = attachment._mappings[(seq + 1) & 1]
        assert mapping is not None
        assert mapping.copy_page is not None
        page = mapping.copy_page()

        def copy_page() -> bytes:
            """Copy the page; meanwhile its inode is replaced, and a handler maps the new one."""
            attachment._generations = [generation + 1 for generation in attachment._generations]
            attachment._load_words = lambda: [seq, *attachment._generations]
            return page

        mapping.copy_page = copy_page
        assert attachment.copy_at_once() is None


@pytest.mark.parametrize("size", [PAGE - PAYLOAD_AT - 100, PAGE, 3 * PAGE])
@pytest.mark.usefixtures("_either_machine")
def test_get_and_read_return_the_same_object(writer: Writer, name: str, size: int) -> None:
    with Reader[Any](name) as reader:
        for number in range(6):
            writer.write([number, "x" * size])
            if number % 2:
                value = reader.get()
                with reader.read() as snapshot:
                    assert snapshot.value is value
            else:
                with reader.read() as snapshot:
                    value = snapshot.value
            assert reader.get() is value
            assert value[0] == number


@pytest.mark.usefixtures("_either_machine")
def test_a_value_that_shrinks_and_grows(writer: Writer, name: str) -> None:
    with Reader[Any](name) as reader:
        for size in (10, 10, 10, 9000, 9000, 10, 10, 10, 200_000, 200_000, 1, 1, 1):
            writer.write("x" * size)
            assert len(reader.get()) == size


@pytest.mark.usefixtures("_either_machine")
def test_a_new_incarnation_after_small_values(writer: Writer, name: str) -> None:
    with Reader[Any](name) as reader:
        for incarnation in range(3):
            for number in range(4):
                writer.write([incarnation, number])
                assert reader.get() == [incarnation, number]
            writer.unlink()


def test_damage_is_noticed(writer: Writer, name: str) -> None:
    with Reader[Any](name) as reader:
        for number in range(4):
            writer.write(["a", number])
            reader.get()
        writer.write(["b"])
        ownership = writer._ownership
        assert ownership is not None
        mapping = ownership.data._mappings[0]
        assert mapping is not None
        mapping.memory[PAYLOAD_AT] = 0xC1  # not a valid first byte in msgpack
        with pytest.raises(EntityReadError):
            reader.get()
        writer.write(["c"])
        writer.write(["d"])
        mapping.memory[8] = 0xFF  # in the header
        with pytest.raises(DataReadError):
            reader.get()
        writer.write(["e"])
        assert reader.get() == ["e"]
