"""What the golden files contain: values of every kind, and damages."""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shmsync import ArrayMap
from shmsync._core.layout import CLOSED, DATA_HEADER, PAYLOAD_AT, VERSION_AT, checksum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Segments = dict[str, bytearray]


class Case(NamedTuple):
    """What is published.

    Attributes:
        values: one value for each version.
        options: arguments of the Writer.
        update: changes the last value in an update.
        expected: the value that a reader finds, if that is not the last one.
    """

    values: tuple[Any, ...]
    options: Mapping[str, Any] = {}
    update: Callable[[Any], None] | None = None
    expected: Any = None


class Damage(NamedTuple):
    """What is damaged in a case.

    Attributes:
        case: name of the case.
        change: changes its segments.
        error: name of the error.
        check_bytes: whether only `read(check_bytes=True)` raises it.
    """

    case: str
    change: Callable[[Segments], object]
    error: str
    check_bytes: bool = False


_ARCHIVE = {"codec": "archive"}
_NUMBERS = [
    0,
    1,
    -1,
    127,
    128,
    -32,
    -33,
    255,
    256,
    65535,
    65536,
    -32768,
    -32769,
    2**32,
    -(2**31) - 1,
    2**64 - 1,
    -(2**63),
]
_PLAIN = {
    "nothing": None,
    "truth": [True, False],
    "integers": _NUMBERS,
    "floats": [0.0, -0.5, 1e300, math.inf, math.nan],
    "texts": ["", "short", "ä" * 40, "x" * 300],
    "bytes": [b"", b"ab", bytes(range(256)) * 2],
    "nested": {"list": list(range(20)), "map": {"a": {"b": []}}},
}
_ROWS = np.arange(12, dtype="f4").reshape(4, 3)


def _row_dtypes() -> dict[str, Any]:
    texts = ("?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "S3", "U2", "M8[us]", "m8[s]")
    return {text: np.arange(4).astype("i8").astype(text) for text in texts}


def _change_rows(draft: Any) -> None:
    draft[[5, 2000]] = 1.0


def _changed_rows() -> Any:
    rows = np.zeros((3000, 4))
    rows[[5, 2000]] = 1.0
    return rows


def _roomy_map(keys: Sequence[Any]) -> ArrayMap:
    return ArrayMap(list(keys), np.arange(140.0).reshape(70, 2), capacity=100)


def _change_keys(draft: Any) -> None:
    draft.remove([3])
    draft[1000] = np.ones(2)


def _change_texts(draft: Any) -> None:
    draft.remove(["k3"])
    draft["new"] = np.ones(2)


def _changed_map(keys: Sequence[Any]) -> dict[Any, Any]:
    expected = dict(zip(keys, np.arange(140.0).reshape(70, 2), strict=True))
    del expected[keys[3]]
    return expected | {"new" if isinstance(keys[0], str) else 1000: np.ones(2)}


CASES: dict[str, Case] = {
    "raw": Case((b"as it is",), {"codec": "raw"}),
    "raw-empty": Case((b"",), {"codec": "raw"}),
    "raw-blocks": Case((bytes(range(256)) * 100,), {"codec": "raw"}),
    "msgpack": Case((_PLAIN,)),
    "msgpack-second-version": Case((1, "two")),
    "msgpack-extended": Case(
        (
            {
                "when": dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc),
                "local": dt.datetime(2026, 1, 2, 3, 4),  # noqa: DTZ001
                "day": dt.date(2026, 1, 2),
                "time": dt.time(1, 2, 3),
                "span": dt.timedelta(1, 2, 3),
                "number": Decimal("1.50"),
                "large": 2**70,
                "set": {1},
            },
        )
    ),
    "frame": Case(({"c": _ROWS, "f": np.asfortranarray(_ROWS), "empty": _ROWS[:0], "blob": b"x" * 5000, "n": 1},)),
    "frame-dtypes": Case((_row_dtypes(),)),
    "frame-structured": Case((np.array([(1, 2.5), (3, 4.5)], [("a", "<i4"), ("b", "<f8")]),)),
    "array-alone": Case((np.arange(6, dtype="i8").reshape(2, 3),)),
    "archive": Case((_PLAIN,), _ARCHIVE),
    "archive-records": Case(({"rows": [{"id": n, "name": f"n{n}", "at": n / 2} for n in range(5)]},), _ARCHIVE),
    "archive-mixed": Case(({"mixed": [1, "a", None, 2.5, True, b"x", [1, "b"], {"k": 1}, 1 << 63]},), _ARCHIVE),
    "archive-lists": Case(
        ({"ragged": [[1.0], [], [2.0, 3.0]], "same": ["ab", "cd"], "pairs": [[1, 2], [3, 4]]},), _ARCHIVE
    ),
    "archive-integer-keys": Case(({n - 50: -n for n in range(100)},), _ARCHIVE),
    "archive-text-keys": Case(({f"key {n}": n for n in range(100)},), _ARCHIVE),
    "archive-byte-keys": Case(({b"%d" % n: n for n in range(100)},), _ARCHIVE),
    "archive-tuple-keys": Case(({("k", n): n for n in range(100)},), _ARCHIVE),
    "archive-float-keys": Case(({n / 2: n for n in range(100)},), _ARCHIVE),
    "archive-arrays": Case(({"one": _ROWS, "two": [_ROWS, _ROWS + 1]},), _ARCHIVE),
    "array-map": Case((ArrayMap(np.arange(70) * 3, np.arange(140.0).reshape(70, 2)),), _ARCHIVE),
    "array-map-texts": Case((ArrayMap([f"k{n}" for n in range(70)], np.arange(70)),), _ARCHIVE),
    "array-map-capacity": Case((_roomy_map(range(70)),), _ARCHIVE, _change_keys, _changed_map(range(70))),
    "array-map-capacity-texts": Case(
        (_roomy_map([f"k{n}" for n in range(70)]),), _ARCHIVE, _change_texts, _changed_map([f"k{n}" for n in range(70)])
    ),
    "isolated": Case((1, _PLAIN), {"mode": 0o644, "reuse_memory": False}),
    "update": Case((np.zeros((3000, 4)),) * 2, {}, _change_rows, _changed_rows()),
}


def _words(at: int, *values: int) -> Callable[[Segments], object]:
    """Return a change of words of data_0, after which the digest of the header is right again."""

    def change(segments: Segments) -> None:
        data = segments["data_0"]
        struct.pack_into(f"={len(values)}Q", data, at, *values)
        struct.pack_into("=Q", data, DATA_HEADER.size, checksum_of(bytes(data[: DATA_HEADER.size])))

    return change


def _flip(part: str, at: int) -> Callable[[Segments], object]:
    """Return a change of one bit."""
    return lambda segments: segments[part].__setitem__(at, segments[part][at] ^ 1)


def _word(part: str, at: int, value: int) -> Callable[[Segments], object]:
    return lambda segments: struct.pack_into("=Q", segments[part], at, value)


def _other_byte_order(segments: Segments) -> None:
    segments["state"][:8] = segments["state"][7::-1]


def _truncated(segments: Segments) -> None:
    del segments["data_0"][9000:]


def _not_msgpack(segments: Segments) -> None:
    segments["data_0"][PAYLOAD_AT] = 0xC1


DAMAGES: dict[str, Damage] = {
    "damaged-state-magic": Damage("msgpack", _flip("state", 0), "LayoutMismatchError"),
    "damaged-layout-version": Damage("msgpack", _flip("state", 8), "LayoutMismatchError"),
    "damaged-byte-order": Damage("msgpack", _other_byte_order, "LayoutMismatchError"),
    "damaged-closed": Damage("msgpack", _word("state", VERSION_AT, CLOSED), "StateNotFoundError"),
    "damaged-no-version": Damage("msgpack", _word("state", VERSION_AT, 0), "UninitializedStateError"),
    "damaged-header-magic": Damage("msgpack", _flip("data_0", 0), "DataReadError"),
    "damaged-header-digest": Damage("msgpack", _flip("data_0", 41), "DataReadError"),
    "damaged-incarnation": Damage("msgpack", _words(8, 5), "DataReadError"),
    "damaged-generation": Damage("msgpack", _words(16, 9), "DataReadError"),
    "damaged-sequence-number": Damage("msgpack", _words(24, 3), "DataReadError"),
    "damaged-size": Damage("msgpack", _words(32, 1 << 40), "DataReadError"),
    "damaged-codec": Damage("msgpack", _words(48, 77), "EntityReadError"),
    "damaged-truncated": Damage("raw-blocks", _truncated, "DataReadError"),
    "damaged-payload": Damage("raw-blocks", _flip("data_0", PAYLOAD_AT + 10_000), "IntegrityError", check_bytes=True),
    "damaged-msgpack": Damage("msgpack", _not_msgpack, "EntityReadError"),
    "damaged-no-data": Damage("msgpack", lambda segments: segments.pop("data_0"), "DataReadError"),
    "damaged-no-table": Damage("msgpack", lambda segments: segments.pop("readers"), "StateReadError"),
}
