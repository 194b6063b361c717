"""The command publish, with the alias put: publish a file, here and through a server on other hosts."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync import Writer
from shmsync._files import Format, changes, format_of, parse
from shmsync._files import publish as publish_file
from shmsync._util.stop_event import StopEvent
from shmsync.cli._options import PasswordFile, choice, number, octal
from shmsync.cli._output import Json, Name, fail, print_errors, print_json, print_line
from shmsync.cli._units import number_text, size_text
from shmsync.errors import EntityWriteError, FencedError, ShmSyncError, WriteLockConflictError, format_error

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import FrameType

    from shmsync import WriteResult

_FORMATS = [each.value for each in Format]
_CODECS = ("msgpack", "archive")


def publish(
    name: Name,
    file: Annotated[
        str | None, typer.Argument(help="File to publish; - for stdin.", metavar="FILE", show_default=False)
    ] = None,
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
        int,
        typer.Option(
            "--mode",
            "-m",
            help="Permission bits of a new name, in octal; by default 600.",
            parser=octal,
            metavar="MODE",
            show_default=False,
        ),
    ] = 0o600,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Send it to this server, for `shmsync replica` on other hosts.", metavar="URL"),
    ] = None,
    password_file: PasswordFile = None,
    compression: Annotated[
        str | None,
        typer.Option("--compression", help="Compress large values.", parser=choice("zstd"), metavar="zstd"),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            "-t",
            help="With --to: fail if that takes longer than N seconds.",
            parser=number(0),
            metavar="N",
        ),
    ] = 30.0,
    json: Json = False,
) -> None:
    """Publish a file under a name. The value stays until `shmsync rm` or a reboot.

    Each file is one value. Fails if another writer is active.

    With --watch, the name is owned until the command is stopped. A file that cannot be read or parsed is reported on
    stderr, and the last value stays published.

    With --to, the file is sent to a server, too, and the command ends when the server has it. Without a FILE, what
    another program publishes under the name is sent, until SIGTERM or SIGINT. Exits with status 3 as soon as another
    publisher of the name has taken over.
    """
    if file is None and (watch or to is None):
        raise typer.BadParameter("missing; it may be left out only with --to and without --watch", param_hint="FILE")
    if watch and file == "-":
        raise typer.BadParameter("--watch needs a FILE, not stdin")
    stop = StopEvent()
    if to is None:
        writer, finish = Writer[Any](name, codec=codec, mode=mode), None
    else:
        from shmsync.cli import _send  # noqa: PLC0415 - other commands do without the client of a server

        server = _send.server(to, password_file, compression)
        if file is None:
            _send.relay(name, server)
            return
        limit = None if watch else timeout
        writer, finish = _send.publisher(name, server, stop, limit, codec=codec, mode=mode)
    _publish(writer, str(file), Format(format) if format else None, stop if watch else None, finish, json=json)


put = publish


def _publish(
    writer: Writer[Any],
    file: str,
    format: Format | None,  # noqa: A002
    stop: threading.Event | None,
    finish: Callable[[], None] | None,
    *,
    json: bool,
) -> None:
    """Publish a file, once or whenever it changes.

    Args:
        writer: the writer.
        file: the file.
        format: its format, if it is not that of its suffix.
        stop: ends the command, which follows the file; None to publish it once.
        finish: called when it is published.
        json: whether to print JSON.
    """
    chosen = format or format_of(file)
    result = None
    with writer:
        if stop is not None:
            _follow(writer, file, chosen, stop, json=json)
        else:
            try:
                result = _publish_stdin(writer, chosen) if file == "-" else publish_file(writer, file, chosen)
            except EntityWriteError as error:
                fail(format_error(error))
        if finish is not None:
            finish()
    if result is not None:
        _report(writer.name, result, json=json)


def _publish_stdin(writer: Writer[Any], format: Format) -> WriteResult:  # noqa: A002
    value = parse("stdin", sys.stdin.buffer.read(), format)
    return writer.write_raw(value) if format is Format.RAW else writer.write(value)


def _follow(writer: Writer[Any], file: str, format: Format, stop: threading.Event, *, json: bool) -> None:  # noqa: A002
    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    for _ in changes(file, writer.name, stop):
        try:
            result = publish_file(writer, file, format)
        except (WriteLockConflictError, FencedError):
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
