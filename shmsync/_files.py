"""Files as values: their formats, and the changes of a file that is followed."""

from __future__ import annotations

import errno
import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shmsync._core.layout import names_of
from shmsync._shm.segment import status_of
from shmsync._util.optional import import_optional
from shmsync.codecs import msgpack
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from shmsync._handles.writer import Writer
    from shmsync._types import WriteResult

EXTRA = "publish"
_CHECK_EVERY = 500  # milliseconds after which a stop is noticed


class Format(str, Enum):
    """Format of a file."""

    JSON = "json"
    TOML = "toml"
    YAML = "yaml"
    MSGPACK = "msgpack"
    RAW = "raw"


_BY_SUFFIX = {
    ".toml": Format.TOML,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
    ".msgpack": Format.MSGPACK,
    ".mpk": Format.MSGPACK,
    ".bin": Format.RAW,
    ".raw": Format.RAW,
}


def format_of(path: str | os.PathLike[str]) -> Format:
    """Return the format that the suffix of a file name stands for; JSON if it is not known."""
    return _BY_SUFFIX.get(Path(path).suffix.lower(), Format.JSON)


def parse(source: str, data: bytes, format: Format) -> Any:  # noqa: A002
    """Return the value in a file; that of a raw file is its bytes.

    Args:
        source: where the data comes from, for messages.
        data: the contents.
        format: their format.

    Raises:
        EntityWriteError: the data is not valid.
        MissingExtraError: the format needs a package that is not installed.
    """
    try:
        return _parse(data, format)
    except RecursionError:
        text = f"{source} is nested too deeply; publish it as raw bytes (--format raw), or a flatter value"
        raise EntityWriteError(text) from None
    except EntityReadError as error:
        why = error.__cause__ or error  # the message of an EntityReadError is about a published value
        raise EntityWriteError(_invalid(source, format, why)) from error
    except ValueError as error:
        raise EntityWriteError(_invalid(source, format, error)) from error


def _parse(data: bytes, format: Format) -> Any:  # noqa: A002
    if format is Format.JSON:
        return json.loads(data)
    if format is Format.TOML:
        return _toml().loads(data.decode())
    if format is Format.YAML:
        yaml = import_optional("yaml", EXTRA, "a YAML file")
        try:
            return yaml.safe_load(data)
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error
    return msgpack.unpack(data) if format is Format.MSGPACK else data


def _toml() -> Any:
    try:
        return import_optional("tomllib", EXTRA, "a TOML file")  # Python 3.11
    except ImportError:
        return import_optional("tomli", EXTRA, "a TOML file")


def _invalid(source: str, format: Format, why: BaseException) -> str:  # noqa: A002
    formats = ", ".join(each.value for each in Format)
    return f"{source} is not valid {format.value}: {str(why).rstrip('.')}; choose another format ({formats})"


def publish(writer: Writer[Any], path: str | os.PathLike[str], format: Format) -> WriteResult:  # noqa: A002
    """Publish a file.

    Raises:
        OSError: it cannot be read.
        EntityWriteError: it is not valid.
        ShmSyncError: what `Writer.write` raises.
    """
    value = parse(str(path), Path(path).read_bytes(), format)
    return writer.write_raw(value) if format is Format.RAW else writer.write(value)


def require_watcher() -> Any:
    """Import and return watchfiles.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_optional("watchfiles", EXTRA, "following a file")


def changes(path: str | os.PathLike[str], name: str, stop: Event) -> Iterator[None]:
    """Yield at once, and whenever a file should be published again, until `stop` is set.

    That is when it was changed or replaced, or another program removed the name. The directory is watched, because
    editors and deployments replace files: by a rename, or by changing a symbolic link.

    Raises:
        MissingExtraError: watchfiles is not installed.
        FileNotFoundError: the directory does not exist.
    """
    watchfiles = require_watcher()
    file, state = Path(path).absolute(), names_of(name).state
    if not file.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file.parent))
    seen = _identity(file)
    yield
    for _ in watchfiles.watch(
        file.parent,
        watch_filter=None,
        recursive=False,
        stop_event=stop,
        rust_timeout=_CHECK_EVERY,
        yield_on_timeout=True,  # a symbolic link may lead to a file in another directory
    ):
        found = _identity(file)
        if found != seen or (found and status_of(state) is None):
            seen = found
            yield


def _identity(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
