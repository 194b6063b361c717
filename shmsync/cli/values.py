"""Verbs that read values: get, watch. Like every reader they take a slot of the reader table while they run."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync import Reader
from shmsync.cli import _key_path
from shmsync.cli._output import Json, Name, fail, no_such_name, number_text, say, say_json, size_text
from shmsync.errors import EntityReadError, StateNotFoundError

if TYPE_CHECKING:
    from shmsync import Snapshot

Keys = Annotated[
    list[str] | None,
    typer.Argument(help="What of the value: a key, or keys with dots between them; may be repeated.", metavar="KEY"),
]


def get(
    name: Name,
    keys: Keys = None,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write bytes to stdout, not JSON: all that is published.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for a first value.")] = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: the default.")] = False,
) -> None:
    """Print the newest value, or a part of it, as JSON.

    Bytes become {"base64": ...}; NaN and infinities the strings "NaN", "Infinity", "-Infinity"; keys that are no
    strings become their JSON. With --raw: the published bytes as they are, or with a KEY the bytes there.
    """
    if raw and json:
        raise typer.BadParameter("--raw and --json exclude each other")
    with Reader(name, timeout=timeout) as reader, _snapshot_of(reader) as snapshot:
        if raw:
            _write(snapshot.buffer if not keys else _bytes_at(snapshot, keys))
            return
        value = _key_path.find(_value(snapshot), keys or [])
        if not keys and isinstance(value, memoryview) and value.format == "B":
            fail(f"{name} holds {len(value):,} raw bytes, which are no JSON: shmsync get {name} --raw")
        say_json(_key_path.as_json(value))


def _snapshot_of(reader: Reader[Any]) -> Snapshot[Any]:
    try:
        return reader.read()
    except StateNotFoundError:
        no_such_name(reader.name)


def _value(snapshot: Snapshot[Any]) -> Any:
    try:
        return snapshot.value
    except EntityReadError as error:
        if "allow_pickle" in str(error):
            fail('published with codec="pickle", which the command line does not run; --raw writes the bytes')
        raise


def _bytes_at(snapshot: Snapshot[Any], keys: list[str]) -> Any:
    value = _key_path.find(_value(snapshot), keys)
    if isinstance(value, str):
        return value.encode()
    try:
        return memoryview(value)
    except TypeError:
        fail(f"{'.'.join(keys)} is no bytes, array or text but {type(value).__name__}: leave --raw out")


def _write(data: Any) -> None:
    sys.stdout.buffer.write(data if memoryview(data).contiguous else memoryview(data).tobytes())


def watch(
    name: Name,
    *,
    count: Annotated[int, typer.Option(min=0, help="End after so many versions; 0: never.")] = 0,
    timeout: Annotated[float | None, typer.Option(min=0, help="End when nothing comes for so many seconds.")] = None,
    json: Json = False,
) -> None:
    """Print a line for each new version, until Ctrl-C. Waits for a name that is not there yet.

    Versions that come while a line is printed may be skipped, the newest never is.
    """
    seen = 0
    with Reader(name) as reader:
        for snapshot in reader.watch(timeout=timeout):
            _say_version(snapshot, json=json)
            seen += 1
            if seen == count:
                return
    if count or not seen:
        fail(f"{name}: nothing new for {timeout:g} s")


def _say_version(snapshot: Snapshot[Any], *, json: bool) -> None:
    seq, _, size, checksum = snapshot.version
    now = time.time()
    if json:
        say_json({"time": now, "seq": seq, "size": size, "checksum": checksum})
    else:
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        say(f"{clock}.{int(now % 1 * 1000):03}  version {number_text(seq)}  {size_text(size)}  {checksum:#018x}")
    sys.stdout.flush()
