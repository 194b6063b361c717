"""The command put: publish a file."""

from __future__ import annotations

import json as json_format
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from shmsync import Writer
from shmsync.cli._output import Json, Name, fail, print_json, print_line
from shmsync.cli._units import size_text
from shmsync.codecs import msgpack
from shmsync.errors import EntityReadError

_OCTAL = 8


class Format(str, Enum):
    """Format of a file."""

    JSON = "json"
    MSGPACK = "msgpack"
    RAW = "raw"


class Codec(str, Enum):
    """Codec of a published value."""

    MSGPACK = "msgpack"
    ARCHIVE = "archive"


_BY_SUFFIX = {".msgpack": Format.MSGPACK, ".mpk": Format.MSGPACK, ".bin": Format.RAW, ".raw": Format.RAW}


def put(
    name: Name,
    file: Annotated[str, typer.Argument(help="File to publish; - for stdin.", metavar="FILE", show_default=False)],
    *,
    format: Annotated[  # noqa: A002 - the option is --format
        Format | None, typer.Option(help="Format of the file.", show_default="by the file name suffix, else json")
    ] = None,
    codec: Annotated[Codec, typer.Option(help="Codec of the published value; ignored for raw files.")] = Codec.MSGPACK,
    mode: Annotated[str, typer.Option(help="Permission bits of a new name, in octal.", metavar="MODE")] = "600",
    json: Json = False,
) -> None:
    """Publish a file under a name and exit. The value stays until `shmsync rm` or a reboot.

    Each file is one value. Fails if another writer is active.
    """
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    format = format or _BY_SUFFIX.get(Path(file).suffix, Format.JSON)  # noqa: A001
    with Writer(name, codec=codec.value, mode=_parse_mode(mode)) as writer:
        result = writer.write_raw(data) if format is Format.RAW else writer.write(_parse(file, data, format))
    if json:
        print_json({"name": name, "seq": result.version.seq, "size": result.size, "reset": result.reset})
    else:
        print_line(f"{name}: published version {result.version.seq:,}, {size_text(result.size)}")


def _parse_mode(mode: str) -> int:
    try:
        return int(mode, _OCTAL)
    except ValueError:
        raise typer.BadParameter(f"{mode!r} is not a valid octal mode such as 640", param_hint="--mode") from None


def _parse(file: str, data: bytes, format: Format) -> Any:  # noqa: A002
    source = "stdin" if file == "-" else file
    try:
        return json_format.loads(data) if format is Format.JSON else msgpack.unpack(data)
    except RecursionError:
        fail(f"{source} is nested too deeply; publish it with --format raw, or a flatter value")
    except (ValueError, EntityReadError) as error:
        why = error.__cause__ or error  # the message of an EntityReadError is about a published value
        fail(f"{source} is not valid {format.value}: {str(why).rstrip('.')}; choose --format json, msgpack or raw")
