"""What `top` shows, and what its keys do. It neither reads the keyboard nor writes to the terminal."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.text import Text

from shmsync.cli._infos import held_style, lag_style, readers_lines, readers_text, writer_text
from shmsync.cli._output import STYLES, in_commands
from shmsync.cli._screen import Key
from shmsync.cli._table import Cell, Column, lines_of, shorten_middle, widths_of
from shmsync.cli._units import count_text, number_text, size_text, span_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shmsync.cli._sampler import Row

COLUMNS = (
    Column("NAME", shorten=shorten_middle, least=24),
    Column("WRITER", optional=1),
    Column("PUB/S", to_right=True),
    Column("VERSION", to_right=True, optional=6),
    Column("AGE", to_right=True, optional=5),
    Column("SIZE", to_right=True, optional=7),
    Column("READERS", optional=2),
    Column("LAG", to_right=True),
    Column("HELD", to_right=True),
    Column("OLD MEMORY", to_right=True, optional=4),
    Column("MEMORY", to_right=True, optional=3),
)

_SORTS: dict[str, tuple[str, Callable[[Row], float]]] = {
    "p": ("PUB/S", lambda row: row.rate or 0),
    "v": ("VERSION", lambda row: row.info.seq or 0),
    "a": ("AGE", lambda row: row.info.age or 0),
    "s": ("SIZE", lambda row: row.info.version.size if row.info.version else 0),
    "r": ("READERS", lambda row: row.readers),
    "l": ("LAG", lambda row: -1 if row.lag is None else row.lag),
    "h": ("HELD", lambda row: row.outdated or 0),
    "o": ("OLD MEMORY", lambda row: row.info.held_memory),
    "m": ("MEMORY", lambda row: row.info.memory),
    "n": ("NAME", lambda _row: 0),
}

_HELP = """\
NAME        name of the published value
WRITER      state and process ID of the writer
PUB/S       versions published per second since the previous sample
VERSION     sequence number of the newest version
AGE         time since it was published
SIZE        size of its value
READERS     live readers; in parentheses those that are evicted, dead or stopped
LAG         how many versions the oldest held version is behind the newest; ">": at least
HELD        how long an outdated version has been held: since the next one was published
OLD MEMORY  memory of replaced segments that readers still have mapped
MEMORY      memory of all segments, with OLD MEMORY

LAG is yellow from 2 versions, red from 100. HELD is yellow from 10 s, red from 60 s.
A narrow window shows fewer columns; Enter shows everything about the selected name.

up, down, j, k        select a name; page keys, b and space: by pages; Home, End, g, G
Enter                 details of the selected name
/                     filter: show names that contain a text; Enter keeps it, Esc removes it
p v a s r l h o m n   sort by PUB/S, VERSION, AGE, SIZE, READERS, LAG, HELD, OLD MEMORY, MEMORY, NAME
i                     invert the order
?                     this help
q                     quit"""

_HEADING = re.compile(r"\S.*?  +(?=\S)")  # of a line in two columns

_MOVES = {Key.UP: -1, "k": -1, Key.DOWN: 1, "j": 1}
_PAGES = {Key.PAGE_UP: -1, "b": -1, Key.PAGE_DOWN: 1, " ": 1}
_ENDS = {Key.HOME: -1, "g": -1, Key.END: 1, "G": 1}
_FAR = 1 << 32
_LIST_HINTS = ("q quit", "? help", "Enter details", "/ filter", "arrows, page keys: select", "p l h m n ...: sort")
_PAGE_HINTS = ("q quit", "Esc back", "arrows, page keys: scroll")
_FILTER_HINTS = ("Enter keep", "Esc remove")


class View:
    """The state of the screen.

    Attributes:
        is_done: whether the user wants to quit.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._rows: list[Row] = []
        self._shown: list[Row] = []
        self._sort = "p"
        self._inverted = False
        self._filter = ""
        self._is_typing = False
        self._selected = ""
        self._position = 0
        self._first = 0
        self._page = 1
        self._subject: str | None = None  # name whose details are shown; empty for the help
        self._scrolled = 0
        self._widths: list[int] = [0] * len(COLUMNS)

    def update(self, rows: Sequence[Row]) -> None:
        """Take a new sample."""
        self._rows = list(rows)
        self._arrange()

    def _arrange(self) -> None:
        """Filter and sort; the selection stays on its name."""
        rows = [row for row in self._rows if self._filter in row.info.name]
        rows.sort(key=lambda row: row.info.name, reverse=self._inverted and self._sort == "n")
        key = _SORTS[self._sort][1]
        rows.sort(key=key, reverse=not self._inverted)  # stable: names in order among equals
        self._shown = rows
        names = [row.info.name for row in rows]
        if self._selected in names:
            self._position = names.index(self._selected)
        self._move(0)

    def _move(self, step: int) -> None:
        self._position = max(0, min(self._position + step, len(self._shown) - 1))
        if step and self._shown:
            self._selected = self._shown[self._position].info.name

    # Keys

    def press(self, key: Key | str) -> None:
        """Do what a key means."""
        if key is Key.DISCONNECTED:
            self.is_done = True
        elif self._is_typing:
            self._type(key)
        elif key in {"q", "Q"}:
            self.is_done = True
        elif self._subject is not None:
            self._press_on_page(key)
        else:
            self._press_in_list(key)

    def _type(self, key: Key | str) -> None:
        if isinstance(key, str):
            self._filter += key
        elif key is Key.BACKSPACE:
            self._filter = self._filter[:-1]
        elif key in {Key.ENTER, Key.ESCAPE}:
            self._is_typing = False
            self._filter = self._filter if key is Key.ENTER else ""
        self._arrange()

    def _press_on_page(self, key: Key | str) -> None:
        if key in {Key.ESCAPE, Key.ENTER, Key.BACKSPACE, "?"}:
            self._subject = None
        else:
            self._scrolled = max(0, self._scrolled + self._step(key))

    def _press_in_list(self, key: Key | str) -> None:
        if key == "?":
            self._open("")
        elif key == "/":
            self._is_typing = True
        elif key is Key.ENTER and self._shown:
            self._selected = self._shown[self._position].info.name
            self._open(self._selected)
        elif key is Key.ESCAPE:
            self._filter = ""
            self._arrange()
        elif key in _SORTS or key == "i":
            self._inverted = key == "i" and not self._inverted
            self._sort = str(key) if key in _SORTS else self._sort
            self._arrange()
        else:
            self._move(self._step(key))

    def _open(self, subject: str) -> None:
        self._subject = subject
        self._scrolled = 0

    def _step(self, key: Key | str) -> int:
        return _MOVES.get(key, 0) + self._page * _PAGES.get(key, 0) + _FAR * _ENDS.get(key, 0)

    # Lines

    def lines(self, width: int, height: int) -> list[Text]:
        """Return the lines of the screen, none longer than its width.

        Args:
            width: columns of the terminal.
            height: lines of the terminal.
        """
        if self._subject is not None:
            return self._page_lines(width, height)
        above = [Text(_summary(self._rows), "bold"), self._status_line(width)][: max(0, height - 3)]
        self._page = max(1, height - len(above) - 2)  # headings and hints
        self._first = min(max(self._first, self._position - self._page + 1), self._position)
        self._first = max(0, min(self._first, len(self._shown) - self._page))
        rows = self._shown[self._first : self._first + self._page]
        cells = [_cells(row) for row in rows]
        self._widths = widths_of(COLUMNS, cells, self._widths)
        body = lines_of(COLUMNS, cells, width, self._widths)
        if rows:
            body[1 + self._position - self._first].stylize("reverse")
        else:
            nothing = f"no name contains {self._filter!r}" if self._rows else "nothing is published on this host"
            body = [Text(nothing)]
        hints = _FILTER_HINTS if self._is_typing else _LIST_HINTS
        return _fitted([*above, *body], hints, self._range(), width, height)

    def _range(self) -> str:
        last = min(self._first + self._page, len(self._shown))
        return f"{self._first + 1}-{last} of {len(self._shown)}" if self._shown else ""

    def _status_line(self, width: int) -> Text:
        line = Text(f"sorted by {_SORTS[self._sort][0]}{', inverted' * self._inverted}")
        if self._is_typing:
            line = Text(f"filter: {self._filter}\N{FULL BLOCK}", "bold")
        elif self._filter:
            line.append(f", only names with {self._filter!r}", "bold")
        if alerts := hints_text(_alerts(self._rows), "", width - len(line) - 2, ", "):
            line.append(f"  {alerts}", "yellow")
        return line

    def _page_lines(self, width: int, height: int) -> list[Text]:
        if self._subject:
            content = self._details(self._subject, width)
        else:
            content = [part for text in _HELP.split("\n") for part in _wrapped(Text(text), width)]
        self._page = max(1, height - 1)
        self._scrolled = max(0, min(self._scrolled, len(content) - self._page))
        shown = content[self._scrolled : self._scrolled + self._page]
        place = f"{self._scrolled + 1}-{self._scrolled + len(shown)} of {len(content)}"
        return _fitted(shown, _PAGE_HINTS, place, width, height)

    def _details(self, name: str, width: int) -> list[Text]:
        row = next((row for row in self._rows if row.info.name == name), None)
        if row is None:
            return [Text(name, "bold"), Text("it was removed")]
        info = row.info
        pairs = list(zip((column.heading for column in COLUMNS), _cells(row), strict=True))
        if info.writer.process is not None:
            pairs.append(("WRITER IS", Cell(f"{info.writer.process.state}: {info.writer.process.command}")))
        pairs.append(("CODEC", Cell(info.codec or "-")))
        lines = [
            part
            for heading, cell in pairs
            for part in _wrapped(Text(f"{heading:<12}", "bold").append(cell.text, cell.style or "not bold"), width)
        ]
        for problem in info.problems:
            lines += _wrapped(Text(f"! {in_commands(problem)}", "red"), width)
        if info.readers:
            lines += [Text(), *readers_lines(info, width)]
        return lines


def _wrapped(text: Text, width: int) -> list[Text]:
    """Return a text as lines that fit, broken between words; those after the first begin below its second column."""
    heading = _HEADING.match(text.plain)
    indent = heading.end() if heading and heading.end() <= width // 2 else 0
    lines: list[Text] = []
    start = 0
    while (room := max(1, width - (indent if lines else 0))) < len(text) - start:
        space = text.plain.rfind(" ", start + 1, start + room + 1)
        if space < start + (0 if lines else indent):
            space = start + room
        lines.append(Text(" " * (indent if lines else 0)) + text[start:space])
        start = space + (text.plain[space] == " ")
    return [*lines, Text(" " * (indent if lines else 0)) + text[start:]]


def _fitted(lines: list[Text], hints: Sequence[str], place: str, width: int, height: int) -> list[Text]:
    """Return exactly as many lines as the screen has, with the hints in the last one."""
    lines = lines[: max(0, height - 1)]
    for line in lines:
        line.truncate(max(0, width), overflow="crop")
    lines += [Text()] * (height - 1 - len(lines))
    return [*lines, Text(hints_text(hints, place, width), "dim")]


def hints_text(hints: Sequence[str], place: str, width: int, separator: str = "  ") -> str:
    """Return the hints that fit, the first ones first, each of them whole; then the place if it fits, too.

    Args:
        hints: the hints, most important first.
        place: which lines are shown.
        width: width of the screen.
        separator: what is between them.
    """
    text = ""
    for part in (*hints, place):
        longer = f"{text}{separator}{part}" if text else part
        if part and len(longer) <= width:
            text = longer
    return text


def _summary(rows: Sequence[Row]) -> str:
    rate = sum(row.rate or 0 for row in rows)
    readers = sum(row.readers for row in rows)
    memory = sum(row.info.memory for row in rows)
    counts = f"{count_text(len(rows), 'name')}, {rate:,.1f} publishes/s, {count_text(readers, 'reader')}"
    return f"{time.strftime('%H:%M:%S')}  {counts}, {size_text(memory)}"


def _alerts(rows: Sequence[Row]) -> list[str]:
    numbers = {
        "dead writer": sum(row.info.writer.state == "dead" for row in rows),
        "damaged name": sum(bool(row.info.problems) and row.info.readable for row in rows),
        "evicted reader": sum(row.evicted for row in rows),
    }
    return [count_text(number, what) for what, number in numbers.items() if number]


def plain_lines(rows: Sequence[Row]) -> list[str]:
    """Return a sample as lines for a pipe: a summary, then the table with all columns."""
    summary = ", ".join([_summary(rows), *_alerts(rows)])
    return [summary, *(line.plain.rstrip() for line in lines_of(COLUMNS, [_cells(row) for row in rows], None))]


def _cells(row: Row) -> list[Cell]:
    info = row.info
    writer = "damaged" if info.problems and info.readable else writer_text(info)
    lag = "-" if row.lag is None else f"{'' if row.lag_is_exact else '>'}{row.lag:,}"
    readers = readers_text(info)
    return [
        Cell(info.name),
        Cell(writer, STYLES.get(writer.partition(" ")[0], "")),
        Cell("-" if row.rate is None or info.seq is None else f"{row.rate:,.1f}"),
        Cell(number_text(None if info.problems else info.seq)),  # a damaged one may be a number of 20 digits
        Cell(span_text(info.age)),
        Cell(size_text(info.version.size if info.version else None)),
        Cell(readers, "yellow" if "(" in readers else ""),
        Cell(lag, lag_style(row.lag)),
        Cell(span_text(row.outdated), held_style(row.outdated)),
        Cell(size_text(info.held_memory)),
        Cell(size_text(info.memory)),
    ]
