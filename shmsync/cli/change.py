"""Verbs that change something: put, rm."""

from __future__ import annotations

import json as json_format
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from shmsync import Writer
from shmsync._core.layout import names_of
from shmsync._session import unlink
from shmsync.cli._output import Json, Name, fail, no_such_name, say, say_json, size_text
from shmsync.codecs import msgpack
from shmsync.errors import EntityReadError

_OCTAL = 8


class Format(str, Enum):
    """What a file holds."""

    JSON = "json"
    MSGPACK = "msgpack"
    RAW = "raw"


class Codec(str, Enum):
    """How values are published."""

    MSGPACK = "msgpack"
    ARCHIVE = "archive"


_BY_SUFFIX = {".msgpack": Format.MSGPACK, ".mpk": Format.MSGPACK, ".bin": Format.RAW, ".raw": Format.RAW}


def put(
    name: Name,
    file: Annotated[str, typer.Argument(help="What to publish; - is stdin.", metavar="FILE", show_default=False)],
    *,
    format: Annotated[  # noqa: A002 - the word for it
        Format | None, typer.Option(help="Of the file.", show_default="by its name, or json")
    ] = None,
    codec: Annotated[Codec, typer.Option(help="How to publish JSON and msgpack.")] = Codec.MSGPACK,
    mode: Annotated[str, typer.Option(help="Permission bits, if the name is new; octal.")] = "600",
    json: Json = False,
) -> None:
    """Publish a file under a name, and exit. The value stays until `rm` or a reboot.

    Refuses while another writer lives. JSON is read as Python does; each file is one value.
    """
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    format = format or _BY_SUFFIX.get(Path(file).suffix, Format.JSON)  # noqa: A001
    with Writer(name, codec=codec.value, mode=_bits(mode)) as writer:
        done = writer.write_raw(data) if format is Format.RAW else writer.write(_parsed(file, data, format))
    if json:
        say_json({"name": name, "seq": done.version.seq, "size": done.size, "reset": done.reset})
    else:
        say(f"{name}: version {done.version.seq:,}, {size_text(done.size)}")


def _bits(mode: str) -> int:
    try:
        return int(mode, _OCTAL)
    except ValueError:
        raise typer.BadParameter(f"{mode!r} are no octal permission bits, such as 640", param_hint="--mode") from None


def _parsed(file: str, data: bytes, format: Format) -> Any:  # noqa: A002
    source = "stdin" if file == "-" else file
    try:
        return json_format.loads(data) if format is Format.JSON else msgpack.unpack(data)
    except RecursionError:
        fail(f"{source} is nested too deeply")
    except (ValueError, EntityReadError) as error:
        fail(f"{source} is no {format.value}: {error}; say what it is with --format json, msgpack or raw")


def rm(
    name: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Even while its writer lives, or if its segments are damaged or foreign.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove a name and its segments. Open snapshots stay valid. Refuses while its writer lives."""
    removed = unlink.force_unlink_name(names_of(name)) if force else unlink.unlink_name(names_of(name))
    if not removed:
        no_such_name(name)
    if json:
        say_json({"name": name, "removed": True})
    else:
        say(f"{name}: removed")
