"""The command publish, with the alias put: publish a file."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync import Writer
from shmsync._files import Format, changes, format_of, parse
from shmsync._files import publish as publish_file
from shmsync.cli._options import choice
from shmsync.cli._output import Json, Name, fail, print_errors, print_json, print_line
from shmsync.cli._units import number_text, size_text
from shmsync.errors import EntityWriteError, ShmSyncError, WriteLockConflictError, format_error

if TYPE_CHECKING:
    from types import FrameType

    from shmsync import WriteResult

_OCTAL = 8


_FORMATS = [each.value for each in Format]
_CODECS = ("msgpack", "archive")


def publish(
    name: Name,
    file: Annotated[str, typer.Argument(help="File to publish; - for stdin.", metavar="FILE", show_default=False)],
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep running, and publish the file again whenever it changes.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option is --format
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="Format of the file; by default that of its suffix, else json.",
            parser=choice(*_FORMATS),
            metavar="|".join(_FORMATS),
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            "--codec",
            "-c",
            help="Codec of the published value; ignored for raw files.",
            parser=choice(*_CODECS),
            metavar="|".join(_CODECS),
        ),
    ] = "msgpack",
    mode: Annotated[
        str, typer.Option("--mode", "-m", help="Permission bits of a new name, in octal.", metavar="MODE")
    ] = "600",
    json: Json = False,
) -> None:
    """Publish a file under a name. The value stays until `shmsync rm` or a reboot.

    Each file is one value. Fails if another writer is active.

    With --watch, the name is owned until the command is stopped. A file that cannot be read or parsed is reported on
    stderr, and the last value stays published.
    """
    if watch and file == "-":
        raise typer.BadParameter("--watch needs a FILE, not stdin")
    bits = _parse_mode(mode)
    chosen = Format(format) if format else format_of(file)
    with Writer[Any](name, codec=codec, mode=bits) as writer:
        if watch:
            _follow(writer, file, chosen, json=json)
            return
        try:
            result = _publish_stdin(writer, chosen) if file == "-" else publish_file(writer, file, chosen)
        except EntityWriteError as error:
            fail(format_error(error))
    _report(name, result, json=json)


put = publish


def _publish_stdin(writer: Writer[Any], format: Format) -> WriteResult:  # noqa: A002
    value = parse("stdin", sys.stdin.buffer.read(), format)
    return writer.write_raw(value) if format is Format.RAW else writer.write(value)


def _follow(writer: Writer[Any], file: str, format: Format, *, json: bool) -> None:  # noqa: A002
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    for _ in changes(file, writer.name, stop):
        try:
            result = publish_file(writer, file, format)
        except WriteLockConflictError:
            raise
        except (ShmSyncError, OSError) as error:
            print_errors([f"{writer.name}: kept the last value: {format_error(error)}"])
            continue
        _report(writer.name, result, json=json)
        sys.stdout.flush()


def _report(name: str, result: WriteResult, *, json: bool) -> None:
    seq = result.version.seq
    if json:
        print_json({"name": name, "seq": seq, "size": result.size, "reset": result.reset})
    else:
        print_line(f"{name}: published version {number_text(seq)}, {size_text(result.size)}")


def _parse_mode(mode: str) -> int:
    try:
        return int(mode, _OCTAL)
    except ValueError:
        raise typer.BadParameter(f"{mode!r} is not a valid octal mode such as 640", param_hint="--mode") from None
