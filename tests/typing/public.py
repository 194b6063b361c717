"""The public names as type checkers see them. Checked by mypy and by basedpyright, both strict; never run.

A line with ignores must be an error to both: an ignore that is not needed is an error itself.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

from shmsync import (
    Codec,
    InstanceVersion,
    Reader,
    Reservation,
    Snapshot,
    Synchronizer,
    Update,
    Writer,
    WriteResult,
    WriterStats,
    names,
    register_codec,
    unlink,
)
from shmsync.publisher import Publisher


@dataclass
class Prices:
    date: str
    eur: float


def readers() -> None:
    untyped = Reader("prices")
    assert_type(untyped, Reader[Any])
    typed = Reader("prices", type=Prices)
    assert_type(typed, Reader[Prices])
    assert_type(Reader("prices", type=dict[str, float]), Reader[dict[str, float]])
    assert_type(Reader[Prices]("prices"), Reader[Prices])
    assert_type(Synchronizer[Prices]("prices"), Synchronizer[Prices])
    annotated: Reader[int | str] = Reader("prices", type=int | str)  # not a class to a type checker
    assert_type(annotated.get(), int | str)
    with Reader("prices", type=Prices, timeout=timedelta(seconds=1)) as reader:
        assert_type(reader, Reader[Prices])
    with Reader("prices", type=Prices, dec_hook=lambda kind, value: kind(value)) as reader:
        assert_type(reader, Reader[Prices])
    assert_type(Reader("prices", frozen=True), Reader[Any])
    assert_type(Reader("prices", frozen=True, zero_copy_bytes=True), Reader[Any])
    assert_type(Reader("prices", type=Prices, zero_copy_bytes=True), Reader[Prices])
    Reader("prices", frozen=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Reader("prices", tpye=Prices)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def names_on_this_host() -> None:
    assert_type(names(), list[str])
    assert_type(unlink("prices"), bool)
    assert_type(unlink("prices", force=True), bool)
    Publisher("prices", "prices.json", mode=0o640).start()
    Publisher("prices", lambda: 1, interval=0.5).stop()


def values(reader: Reader[Prices]) -> None:
    assert_type(reader.get(), Prices)
    assert_type(reader.get(default=None), Prices | None)
    assert_type(reader.get(default=0), Prices | int)
    reader.get("eur")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    assert_type(reader.get().eur, float)
    assert_type(reader.version(), InstanceVersion)
    with reader.read(check_bytes=True) as snapshot:
        assert_type(snapshot, Snapshot[Prices])
        assert_type(snapshot.value, Prices)
        assert_type(snapshot.buffer, memoryview)
        assert_type(snapshot.is_switched, bool)
    str(reader.get().usd)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownArgumentType]
    reader.get().eur = "1"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


def waiting(reader: Reader[Prices]) -> None:
    assert_type(reader.wait(), int | None)
    assert_type(reader.wait(since=reader.version(), timeout=timedelta(seconds=1)), int | None)
    for snapshot in reader.watch(since=3, timeout=1):
        assert_type(snapshot, Snapshot[Prices])
    with closing(reader.watch()) as watch:
        assert_type(next(watch), Snapshot[Prices])
    reader.wait("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def waiting_in_a_loop(reader: Reader[Prices]) -> None:
    assert_type(await reader.wait_async(timeout=1), int | None)
    async for snapshot in reader.watch_async():
        assert_type(snapshot.value, Prices)


def writers() -> None:
    untyped = Writer("prices", codec="archive", grace_duration=timedelta(seconds=1))
    assert_type(untyped, Writer[Any])
    untyped.write({"any": "thing"})
    typed: Writer[Prices] = Writer("prices")
    result = typed.write(Prices("2026-11-24", 1.08))
    assert_type(result, WriteResult)
    assert_type(result.version, InstanceVersion)
    assert_type(result.version.seq, int)
    assert_type(typed.stats(), WriterStats)
    Writer("prices", enc_hook=str).close()
    Writer("prices", enc_hook=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(Writer[Prices]("prices"), Writer[Prices])
    with typed.reserve(64) as slot:
        assert_type(slot, Reservation)
        assert_type(slot.buffer, memoryview)
    assert_type(slot.result, WriteResult | None)
    with typed.update(initial=Prices("2026-11-24", 1.08)) as draft:
        assert_type(draft, Update)
        draft["eur"] = 1.09
    assert_type(draft.result, WriteResult | None)
    typed.write({"eur": 1.08})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    typed.write(Prices("2026-11-24", 1.08), grace_duration="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Utf8:
    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, payload: memoryview) -> str:
        return str(payload, "utf-8")


def codecs() -> None:
    codec: Codec = Utf8()
    register_codec("utf-8", codec)
    register_codec("utf-8", Utf8(), replace=True)
    register_codec("utf-8", str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def both() -> None:
    assert_type(Synchronizer("prices"), Synchronizer[Any])
    assert_type(Synchronizer("prices", frozen=True, zero_copy_bytes=True), Synchronizer[Any])
    typed = Synchronizer("prices", type=Prices, codec="msgpack", dec_hook=lambda kind, value: kind(value), enc_hook=str)
    assert_type(typed, Synchronizer[Prices])
    assert_type(typed.get(), Prices)
    assert_type(typed.write(Prices("2026-11-24", 1.08)), WriteResult)
    typed.write(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
