"""Write and read the golden files.

Each case is a folder: the segments without their trailing zeros, and `case.json` with their sizes, and the value or the
error. The incarnation, times and pids are replaced by constants, so that a file changes only if the format does, or
what an encoder makes of a value.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.cases import CASES, DAMAGES
from shmsync import ArrayMap, Writer, unlink
from shmsync._core.layout import (
    DATA_HEADER,
    PAYLOAD_AT,
    PUBLIC_MAGIC,
    READERS_HEADER,
    STATE_HEADER,
    WRITER_AT,
    pack_data_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from golden.cases import Case, Segments

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "segments"
SHM = Path("/dev/shm")
_PARTS = ("state", "readers", "data_0", "data_1")
_INCARNATION = 0x0123456789ABCDEF
_SLOTS = 4


def plain(value: Any) -> Any:
    """Return a value as JSON can contain it; what JSON has no kind for is an object with one key."""
    result: Any = value
    if isinstance(value, np.ndarray):
        result = {"array": [str(value.dtype), list(value.shape), plain(value.tolist())]}
    elif isinstance(value, ArrayMap):
        result = plain(dict(zip(np.asarray(value.keys).tolist(), value.values, strict=True)))
    elif isinstance(value, bytes | memoryview):
        result = {"bytes": bytes(value).hex()}
    elif isinstance(value, np.generic):
        result = plain(value.item())
    elif isinstance(value, float) and not math.isfinite(value):
        result = {"float": str(value)}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        result = [plain(item) for item in value]
    elif isinstance(value, Mapping) and all(type(key) is str for key in value):
        result = {"map": {key: plain(item) for key, item in value.items()}}
    elif isinstance(value, Mapping):
        result = {"pairs": [[plain(key), plain(item)] for key, item in value.items()]}
    elif not (value is None or isinstance(value, bool | int | float | str)):
        result = {"other": str(value)}
    return result


def published(name: str, case: Case) -> Segments:
    """Publish a case; return its segments, which do not exist any more."""
    with Writer[Any](name, max_readers=_SLOTS, **case.options) as writer:
        for value in case.values:
            writer.write(value)
        if case.update is not None:
            with writer.update() as draft:
                case.update(draft)
    found = {part: bytearray(path.read_bytes()) for part in _PARTS if (path := SHM / f"{name}_{part}").exists()}
    unlink(name)
    _normalize(found)
    return found


def _normalize(segments: Segments) -> None:
    """Replace what differs from run to run."""
    for part, content in segments.items():
        if part.startswith("data") and any(content[:PAYLOAD_AT]):
            _, _, generation, seq, size, checksum, codec, _ = DATA_HEADER.unpack_from(content)
            content[:PAYLOAD_AT] = pack_data_header(_INCARNATION, generation, seq, size, checksum, codec, 0)
    for part in ("state", "readers"):
        content = segments[part]
        magic, *words = STATE_HEADER.unpack_from(content)
        if part == "state" or magic == PUBLIC_MAGIC:
            STATE_HEADER.pack_into(content, 0, magic, *words[:4], _INCARNATION, 0)
            struct.pack_into("=QQ", content, WRITER_AT, 0, 0)
        else:
            magic, layout, slots, _ = READERS_HEADER.unpack_from(content)
            READERS_HEADER.pack_into(content, 0, magic, layout, slots, _INCARNATION)


def made(name: str) -> dict[str, tuple[dict[str, Any], Segments]]:
    """Return all cases as they are written now: what `case.json` contains, and the segments.

    Args:
        name: a name that is not in use.
    """
    found: dict[str, tuple[dict[str, Any], Segments]] = {}
    for title, case in CASES.items():
        segments = published(name, case)
        value = case.values[-1] if case.expected is None else case.expected
        found[title] = ({"sizes": _sizes(segments), "value": plain(value)}, segments)
    for title, damage in DAMAGES.items():
        segments = {part: bytearray(content) for part, content in found[damage.case][1].items()}
        damage.change(segments)
        facts = {"sizes": _sizes(segments), "error": damage.error, "check_bytes": damage.check_bytes}
        found[title] = (facts, segments)
    return found


def _sizes(segments: Segments) -> dict[str, int]:
    return {part: len(content) for part, content in segments.items()}


def stored(title: str) -> tuple[dict[str, Any], Segments]:
    """Return a case as it is stored."""
    folder = FOLDER / title
    facts = json.loads((folder / "case.json").read_text())
    segments = {}
    for part, size in facts["sizes"].items():
        content = (folder / f"{part}.bin").read_bytes()
        segments[part] = bytearray(content + bytes(size - len(content)))
    return facts, segments


@contextmanager
def installed(title: str, name: str) -> Iterator[dict[str, Any]]:
    """Create the segments of a stored case under a name, for the duration of a block; return its `case.json`."""
    facts, segments = stored(title)
    paths = [SHM / f"{name}_{part}" for part in segments]
    try:
        for path, content in zip(paths, segments.values(), strict=True):
            path.write_bytes(content)
            path.chmod(0o644 if title == "isolated" and not path.name.endswith("_state") else 0o600)
        yield facts
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def store(title: str, facts: dict[str, Any], segments: Segments) -> None:
    """Write the files of a case."""
    folder = FOLDER / title
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "case.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    for part, content in segments.items():
        (folder / f"{part}.bin").write_bytes(bytes(content).rstrip(b"\0"))


def differences(before: Segments, after: Segments) -> list[str]:
    """Describe where the segments of a case differ."""
    found = []
    for part in dict.fromkeys([*before, *after]):
        old, new = before.get(part), after.get(part)
        if old is None or new is None:
            found.append(f"{part} is {'new' if old is None else 'missing'}")
        elif old != new:
            at = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(old))
            found.append(f"{part} differs from byte {at} on, {len(old)} and {len(new)} bytes")
    return found
