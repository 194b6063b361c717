"""How verbs speak: tables, JSON and complaints; colours in a terminal only, plain aligned text elsewhere."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shmsync import Info, ReaderInfo

FAILED = 1
USAGE = 2
INTERRUPTED = 130

Name = Annotated[str, typer.Argument(help="The name that is published under.", metavar="NAME", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024
_SPANS = ((120, 1, "s"), (120 * 60, 60, "m"), (48 * 3600, 3600, "h"))
_DAY = 86400
_GAP = 2
_LEAST_FIRST = 12
STYLES = {
    "alive": "green",
    "dead": "red",
    "damaged": "red",
    "evicted": "yellow",
    "reading": "cyan",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def stdout() -> Console:
    """Return the console for results."""
    return Console(markup=False, highlight=False, emoji=False)


def stderr() -> Console:
    """Return the console for everything else."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def complain(sentences: Iterable[str]) -> None:
    """Say what is wrong, one line each."""
    console = stderr()
    for sentence in sentences:
        _print(console, f"shmsync: {sentence}", style="red")


def note(text: str) -> None:
    """Say something that is no result."""
    _print(stderr(), text)


def fail(*sentences: str) -> NoReturn:
    """Say what is wrong, and end."""
    complain(sentences)
    raise typer.Exit(FAILED)


def no_such_name(name: str) -> NoReturn:
    """Say that a name is not there, and end."""
    fail(f"{name}: there is no such name; shmsync ls lists them")


def say(text: str) -> None:
    """Print a line of the result."""
    _print(stdout(), text)


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=not console.is_terminal)  # wrapped between words, but not in a pipe


class Grid:
    """Rows under headings. The first column gives way where a terminal is too narrow.

    Args:
        headings: one for each column; those that end in ">" are set to the right.
        cut: shorten the first column rather than wrap it.
    """

    def __init__(self, *headings: str, cut: bool = False) -> None:
        self._headings = [heading.rstrip(">") for heading in headings]
        self._to_right = [heading.endswith(">") for heading in headings]
        self._cut = cut
        self._rows: list[Sequence[str]] = []

    def add(self, *cells: str) -> None:
        """Append a row."""
        self._rows.append(cells)

    def as_table(self, width: int, shown: slice = slice(None)) -> Table:
        """Return it for a terminal.

        Args:
            width: of the terminal, in columns.
            shown: rows to show.
        """
        first, *others = self._widths()
        left = self._left(width)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for number, (heading, to_right) in enumerate(zip(self._headings, self._to_right, strict=True)):
            table.add_column(
                heading,
                justify="right" if to_right else "left",
                width=min(first, left) if number == 0 else others[number - 1],
                no_wrap=self._cut or number > 0,
                overflow="ellipsis" if self._cut or number > 0 else "fold",
            )
        for row in self._rows[shown]:
            name = _shortened(row[0], left) if self._cut else row[0]
            cells = (Text(cell, style=STYLES.get(cell.partition(" ")[0], "")) for cell in row[1:])
            table.add_row(Text(name), *cells)
        return table

    def as_lines(self) -> list[str]:
        """Return it for a pipe."""
        rows, widths = [self._headings, *self._rows], self._widths()
        return ["  ".join(map(_set, row, widths, self._to_right)).rstrip() for row in rows]

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(self._headings, *self._rows, strict=True)]

    def _left(self, width: int) -> int:
        """Return what a terminal leaves for the first column."""
        _, *others = self._widths()
        return max(_LEAST_FIRST, width - sum(others) - _GAP * len(others))

    def _fits(self, width: int) -> bool:
        first, *others = self._widths()
        return min(first, _LEAST_FIRST) + sum(others) + _GAP * len(others) <= width

    def show(self) -> None:
        """Print it: as a table in a terminal that is wide enough."""
        console = stdout()
        if console.is_terminal and self._fits(console.width):
            console.print(self.as_table(console.width))
        else:
            for line in self.as_lines():
                console.print(line, soft_wrap=True)


def _shortened(text: str, width: int) -> str:
    """Return a text without its middle: names that begin alike differ at their ends."""
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _set(cell: str, width: int, to_right: bool) -> str:  # noqa: FBT001 - mapped over columns
    return cell.rjust(width) if to_right else cell.ljust(width)


# ---------------------------------------------------------------------------------------------------------- in words


def size_text(size: float | None) -> str:
    """Return a size in bytes for humans."""
    if size is None:
        return "-"
    for unit in _UNITS:
        if size < _KIB or unit == _UNITS[-1]:
            break
        size /= _KIB
    return f"{size:.0f} B" if unit == _UNITS[0] else f"{size:.1f} {unit}"


def span_text(seconds: float | None) -> str:
    """Return a span of time for humans: "45s", "12m", "30h", "4d"."""
    if seconds is None:
        return "-"
    for below, unit, letter in _SPANS:
        if seconds < below:
            return f"{max(0, int(seconds)) // unit}{letter}"
    return f"{int(seconds) // _DAY}d"


def since_text(moment: float | None) -> str:
    """Return how long ago a unix time was."""
    return "-" if moment is None else span_text(time.time() - moment)


def time_text(moment: float | None) -> str:
    """Return a unix time as local date and time."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def number_text(number: int | None) -> str:
    """Return a number with separators."""
    return "-" if number is None else f"{number:,}"


def writer_text(info: Info) -> str:
    """Return who writes."""
    if not info.readable:
        return "no access"
    return info.writer.state if info.writer.pid is None else f"{info.writer.state} {info.writer.pid}"


def held_text(reader: ReaderInfo) -> str:
    """Return for how long a reader has held what it holds: "12s", "10s-12s" or ">12s"."""
    if reader.held_at_least is None:
        return "-"
    least, most = span_text(reader.held_at_least), span_text(reader.held_at_most)
    return f">{least}" if reader.held_at_most is None else most if least == most else f"{least}-{most}"


def holds_text(info: Info, reader: ReaderInfo) -> str:
    """Return what a reader holds."""
    held = [
        f"{count} on data_{idx}" + ("" if reader.evicted else f" (version {number_text(info.segments[2 + idx].seq)})")
        for idx, count in enumerate(reader.counts)
        if count
    ]
    if reader.announced:
        held.append(f"{reader.announced} entering")
    held += [
        f"retains data_{keep.idx} #{keep.generation}" + ("" if keep.current else " (replaced)")
        for keep in reader.retained
    ]
    return ", ".join(held) or "-"


# ------------------------------------------------------------------------------------------------------------ as JSON


def say_json(value: Any) -> None:
    """Print a result as one line of JSON."""
    typer.echo(json.dumps(value, allow_nan=False))


def plain_info(info: Info) -> dict[str, Any]:
    """Return what is known of a name, for JSON."""
    return {
        **plain(info),
        "memory": info.memory,
        "replaced": info.replaced,
        "readers": [plain_reader(reader) for reader in info.readers],
    }


def plain_reader(reader: ReaderInfo) -> dict[str, Any]:
    """Return what is known of a reader, for JSON."""
    return {**plain(reader), "state": reader.state}


def plain(value: Any) -> Any:
    """Return named tuples as dicts."""
    if hasattr(value, "_asdict"):
        return {key: plain(item) for key, item in value._asdict().items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
