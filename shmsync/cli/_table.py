"""A table that fits a terminal of any width: it leaves out columns, then shortens one. No line is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

_GAP = 2
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class Cell(NamedTuple):
    """A cell with a style of rich."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column.

    Attributes:
        heading: its heading.
        to_right: whether it is aligned to the right.
        optional: columns of a larger number are left out first; 0 to never leave it out.
        shorten: shortens a cell to a width; the flexible column of the table has it, and no other.
        least: width to which the flexible column shrinks before another one is left out.
    """

    heading: str
    to_right: bool = False
    optional: int = 0
    shorten: Callable[[str, int], str] | None = None
    least: int = 12


def shorten_middle(text: str, width: int) -> str:
    """Cut out the middle of a text, because similar names often differ at the end only."""
    if len(text) <= width:
        return text
    half = max(0, width - 1) // 2
    return f"{text[: max(0, width - 1) - half]}{_ELLIPSIS}{text[len(text) - half :]}"


def shorten_end(text: str, width: int) -> str:
    """Cut off the end of a text."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}{_ELLIPSIS}"


def lines_of(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None, least: Sequence[int] = ()
) -> list[Text]:
    """Return a table as lines: the headings, then the rows.

    Args:
        columns: the columns.
        rows: the rows.
        width: the longest line; None for no limit.
        least: least width of each column, so that a table that changes does not move.
    """
    widths = widths_of(columns, rows, least)
    shown = list(range(len(columns)))
    if width is not None:
        shown = _fitting(columns, widths, width)
        flexible = next((at for at in shown if columns[at].shorten), None)
        if flexible is not None:
            others = sum(widths[at] + _GAP for at in shown if at != flexible)
            widths[flexible] = max(1, min(widths[flexible], width - others))
    headings = [Cell(column.heading, "bold") for column in columns]
    return [_line(columns, row, shown, widths, width) for row in (headings, *rows)]


def plain_lines(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Return a complete table as lines of plain text, without rich, which is slow to import."""
    widths = widths_of(columns, rows)
    headings = [Cell(column.heading) for column in columns]
    return ["  ".join(map(_align, columns, row, widths)).rstrip() for row in (headings, *rows)]


def _align(column: Column, cell: Cell, width: int) -> str:
    return cell.text.rjust(width) if column.to_right else cell.text.ljust(width)


def widths_of(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], least: Sequence[int] = ()) -> list[int]:
    """Return the width of each column."""
    widths = list(least) or [0] * len(columns)
    for row in ([Cell(column.heading) for column in columns], *rows):
        widths = [max(width, len(cell.text)) for width, cell in zip(widths, row, strict=True)]
    return widths


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return the columns to show."""
    shown = list(range(len(columns)))
    for at in sorted(shown, key=lambda at: -columns[at].optional):
        least = sum(min(widths[at], columns[at].least) if columns[at].shorten else widths[at] for at in shown)
        if least + _GAP * (len(shown) - 1) <= width or not columns[at].optional:
            break
        shown.remove(at)
    return shown


def _line(
    columns: Sequence[Column], row: Sequence[Cell], shown: Sequence[int], widths: Sequence[int], width: int | None
) -> Text:
    from rich.text import Text  # noqa: PLC0415 - for terminals only

    line = Text(no_wrap=True, end="")
    for number, at in enumerate(shown):
        shorten, text = columns[at].shorten, row[at].text
        if shorten is not None:
            text = shorten(text, widths[at])
        if columns[at].to_right:
            text = text.rjust(widths[at])
        elif number < len(shown) - 1:
            text = text.ljust(widths[at])
        line.append(" " * _GAP if number else "").append(text, row[at].style)
    if width is not None and len(line) > width:
        line.truncate(max(0, width), overflow="crop")
    return line
