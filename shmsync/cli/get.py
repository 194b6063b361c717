"""The command get: the newest value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync import Reader
from shmsync.cli import _key_path
from shmsync.cli._options import number
from shmsync.cli._output import Name, Owner, fail, fail_not_found, print_json, print_note, terminal
from shmsync.cli._pretty import Limits, pretty
from shmsync.cli._shape import shape_lines, shape_of
from shmsync.cli._values import Keys, decoded
from shmsync.errors import StateNotFoundError

if TYPE_CHECKING:
    from shmsync import Snapshot


def get(
    name: Name,
    keys: Keys = None,
    *,
    raw: Annotated[bool, typer.Option("--raw", "-r", help="Write bytes to stdout instead of JSON.")] = False,
    type: Annotated[  # noqa: A002 - the option is --type
        bool, typer.Option("--type", "-T", help="Print types, lengths and shapes instead of the value.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", "-f", help="Do not shorten long parts in a terminal.")] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", "-t", help="Wait N seconds for the first value.", parser=number(0), metavar="N"),
    ] = 0.0,
    owner: Owner = None,
    json: Annotated[bool, typer.Option("--json", "-j", help="Print JSON on one line, as in a pipe.")] = False,
) -> None:
    """Print the newest value, or a part of it, as JSON.

    In a terminal the JSON is indented, and long texts, arrays and maps are shortened; elsewhere it is complete and on
    one line. Bytes are printed as {"base64": ...}, NaN and infinities as the strings "NaN", "Infinity" and "-Infinity",
    and keys that are not strings as their JSON text.

    With --raw, the published bytes are written unchanged; with --raw and a KEY, the bytes, text or array at that path.
    """
    if raw and (json or type):
        raise typer.BadParameter(f"--raw and {'--json' if json else '--type'} are mutually exclusive")
    with Reader(name, timeout=timeout, owner=owner) as reader, _read(reader) as snapshot:
        if raw:
            _write(snapshot.buffer if not keys else _bytes_at(snapshot, keys))
            return
        value = _key_path.resolve(decoded(snapshot), keys or [])
        if type:
            _print_shape(value, json=json)
            return
        if not keys and isinstance(value, memoryview) and value.format == "B":
            fail(f"{name} contains {len(value):,} raw bytes, not JSON; use `shmsync get {name} --raw`")
        if not json and (console := terminal()):
            _print_pretty(value, console.width, full=full)
        else:
            print_json(_key_path.to_json(value))


def _print_pretty(value: Any, width: int, *, full: bool) -> None:
    lines, is_shortened = pretty(value, width, None if full else Limits())
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    if is_shortened:
        print_note("shortened; --full prints everything, and so does a pipe")


def _print_shape(value: Any, *, json: bool) -> None:
    shape = shape_of(value)
    if json:
        print_json(shape)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in shape_lines(shape)))


def _read(reader: Reader[Any]) -> Snapshot[Any]:
    try:
        return reader.read()
    except StateNotFoundError:
        fail_not_found(reader.name)


def _bytes_at(snapshot: Snapshot[Any], keys: list[str]) -> Any:
    value = _key_path.resolve(decoded(snapshot), keys)
    if isinstance(value, str):
        return value.encode()
    try:
        return memoryview(value)
    except TypeError:
        fail(f"{'.'.join(keys)} is of type {value.__class__.__name__}, not bytes, text or an array; omit --raw")


def _write(data: Any) -> None:
    sys.stdout.buffer.write(data if memoryview(data).contiguous else memoryview(data).tobytes())
