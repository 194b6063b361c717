"""Values that several rows of the benchmark publish; no package is needed for them but msgpack."""

from __future__ import annotations

from typing import Any

import msgpack

LARGE = 64 * 1024 * 1024


def config() -> dict[str, Any]:
    """Return a configuration of 20 keys that packs to 1 KiB."""
    value: dict[str, Any] = {
        f"setting_{number:02d}": [number, number * 1.5, f"value {number}", True] for number in range(19)
    }
    value["text"] = "x" * (1024 - len(msgpack.packb({**value, "text": ""})) - 2)
    return value
