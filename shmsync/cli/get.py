"""The command get: the newest value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync import Reader
from shmsync.cli import _key_path
from shmsync.cli._output import Name, Owner, fail, fail_not_found, print_json
from shmsync.errors import EntityReadError, StateNotFoundError

if TYPE_CHECKING:
    from shmsync import Snapshot

Keys = Annotated[
    list[str] | None,
    typer.Argument(help="Dotted path into the value, e.g. users.17; several are joined.", metavar="KEY"),
]


def get(
    name: Name,
    keys: Keys = None,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write bytes to stdout instead of JSON.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Wait N seconds for the first value.", metavar="N")] = 0.0,
    owner: Owner = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (the default).")] = False,
) -> None:
    """Print the newest value, or a part of it, as JSON.

    Bytes are printed as {"base64": ...}, NaN and infinities as the strings "NaN", "Infinity" and "-Infinity", and keys
    that are not strings as their JSON text.

    With --raw, the published bytes are written unchanged; with --raw and a KEY, the bytes, text or array at that path.
    """
    if raw and json:
        raise typer.BadParameter("--raw and --json are mutually exclusive")
    with Reader(name, timeout=timeout, owner=owner) as reader, _read(reader) as snapshot:
        if raw:
            _write(snapshot.buffer if not keys else _bytes_at(snapshot, keys))
            return
        value = _key_path.resolve(_value(snapshot), keys or [])
        if not keys and isinstance(value, memoryview) and value.format == "B":
            fail(f"{name} contains {len(value):,} raw bytes, not JSON; use `shmsync get {name} --raw`")
        print_json(_key_path.to_json(value))


def _read(reader: Reader[Any]) -> Snapshot[Any]:
    try:
        return reader.read()
    except StateNotFoundError:
        fail_not_found(reader.name)


def _value(snapshot: Snapshot[Any]) -> Any:
    try:
        return snapshot.value
    except EntityReadError as error:
        if "allow_pickle" in str(error):
            fail('the value was published with codec="pickle", which the command line does not decode; use --raw')
        raise


def _bytes_at(snapshot: Snapshot[Any], keys: list[str]) -> Any:
    value = _key_path.resolve(_value(snapshot), keys)
    if isinstance(value, str):
        return value.encode()
    try:
        return memoryview(value)
    except TypeError:
        fail(f"{'.'.join(keys)} is of type {type(value).__name__}, not bytes, text or an array; omit --raw")


def _write(data: Any) -> None:
    sys.stdout.buffer.write(data if memoryview(data).contiguous else memoryview(data).tobytes())
