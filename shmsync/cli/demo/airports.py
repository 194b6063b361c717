"""The value that the demo publishes: the airports of the world, with a digest that each reader verifies."""

from __future__ import annotations

import random
from typing import Any, TypedDict

import msgpack
import xxhash

from shmsync.errors import MissingExtraError

_CHANGES = 100  # airports that differ between two versions

Airports = dict[str, dict[str, Any]]


class AirportTable(TypedDict):
    """One version of the table. `digest` is the xxh3-64 of the airports packed with msgpack."""

    number: int
    digest: int
    airports: Airports


def initial_table() -> AirportTable:
    """Return the airports of the package `airportsdata` by ICAO code.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        import airportsdata  # noqa: PLC0415 - comes with the extra
    except ImportError:
        raise MissingExtraError(
            "the demo publishes the airport table of the package airportsdata: pip install 'shmsync[demo]'"
        ) from None
    return _table(0, {code: dict(airport) for code, airport in airportsdata.load("ICAO").items()})


def next_table(table: AirportTable) -> AirportTable:
    """Return the next version, in which some airports have another elevation."""
    number = table["number"] + 1
    rng = random.Random(number)  # noqa: S311 - a test pattern
    airports = table["airports"]
    codes = rng.sample(sorted(airports), _CHANGES)
    changed = {code: {**airports[code], "elevation": round(rng.uniform(-1000, 15000), 1)} for code in codes}
    return _table(number, {**airports, **changed})


def is_intact(table: AirportTable) -> bool:
    """Return whether the digest matches the airports."""
    return table["digest"] == _digest(table["airports"])


def _table(number: int, airports: Airports) -> AirportTable:
    return {"number": number, "digest": _digest(airports), "airports": airports}


def _digest(airports: Airports) -> int:
    return xxhash.xxh3_64_intdigest(msgpack.packb(airports))
