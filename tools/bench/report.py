"""Tables of results, for the terminal and for docs/benchmarks.md, and the data beside that page."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, NamedTuple

import rich.box
import rich.table

from bench.peers import CRASH_SAFE, PEERS, SHMSYNC
from bench.results import Document, Result, digits, formatted, versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BEGIN, END = "<!-- results -->", "<!-- /results -->"
_COLUMNS = ("row", "peer", "unit", "x", "count", "min", "median", "p99", "max", "remark")
_NUMBERS = frozenset({"min", "median", "p99", "max", "ratio", "x shmsync"})
_VERDICTS = {True: "met", False: "**missed**", None: ""}
_SPREAD = ("min", "median", "p99", "max")
_MOST_READERS = 1024  # a larger x is a size in bytes


class Table(NamedTuple):
    """Cells of text."""

    columns: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        rules = tuple("---:" if column in _NUMBERS else "---" for column in self.columns)
        lines = [tuple(cell.replace("|", "\\|") for cell in line) for line in self.lines]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (self.columns, rules, *lines))

    def rich(self, title: str = "") -> rich.table.Table:
        """Return it for a terminal."""
        made = rich.table.Table(title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD)
        for column in self.columns:
            made.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
        for line in self.lines:
            made.add_row(*(cell.replace("**", "").replace("[", "\\[") for cell in line))
        return made


def baseline_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the rows that are compared with a baseline."""
    columns = ("row", "min", "median", "p99", "baseline is", "median of it", "ratio", "target", "")
    return Table(columns, [_baseline_line(row) for row in rows])


def _baseline_line(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return row["row"], "", "", "", row["baseline"], "", "", "", row["error"]
    unit, limit = row["unit"], row["limit"]
    spread = (formatted(row["subject"][name], unit) for name in ("min", "median", "p99"))
    target = "" if limit is None else f"<= {formatted(limit, unit)}"
    if row["target_ratio"] is not None:
        target = f"<= {row['target_ratio']:g} x"
    base = formatted(row["reference"]["median"], unit)
    return row["row"], *spread, row["baseline"], base, f"{row['ratio'] + 0.0:.2f}", target, _VERDICTS[row["met"]]


def steps_table(counted: Sequence[dict[str, Any]]) -> Table:
    """Return the rows in which Python steps were counted."""
    return Table(("row", "calls", "at most", "bytecodes", "at most", ""), [_steps_line(row) for row in counted])


def _steps_line(row: dict[str, Any]) -> tuple[str, ...]:
    most = row["targets"] or {"calls": "", "instructions": ""}
    counts = (row["calls"], most["calls"], row["instructions"], most["instructions"])
    return row["row"], *map(str, counts), _VERDICTS[row["met"]]


def target_table(document: Document) -> Table:
    """Return all targets: of the rows that are compared with a baseline, and beside the peers."""
    rows = [_baseline_target(row) for row in document["rows"] if row.get("met") is not None]
    return Table(("target", "limit", "measured", ""), [*rows, *map(_target, document["targets"])])


def _baseline_target(row: dict[str, Any]) -> tuple[str, ...]:
    median, base = (formatted(row[name]["median"], row["unit"]) for name in ("subject", "reference"))
    if row["target_ratio"] is None:
        return row["row"], f"<= {formatted(row['limit'], row['unit'])}", median, _VERDICTS[row["met"]]
    measured = f"{row['ratio']:.2f} ({median} / {base})"
    return f"{row['row']} / {row['baseline']}", f"<= {row['target_ratio']:g}", measured, _VERDICTS[row["met"]]


def _target(target: dict[str, Any]) -> tuple[str, ...]:
    sign, limit = (">=", target["at_least"]) if "at_least" in target else ("<=", target["at_most"])
    measured = f"{target['value']:.2f} ({target['from']})"
    return target["target"], "" if limit is None else f"{sign} {limit:g}", measured, _VERDICTS[target["met"]]


def target_summary(table: Table) -> str:
    """Return how many targets are met."""
    verdicts = [line[-1] for line in table.lines if line[-1]]
    return f"Performance targets: {verdicts.count(_VERDICTS[True])} of {len(verdicts)} met."


def peer_table(document: Document) -> Table:
    """Return the peers of a run."""
    known, there = document["environment"].get("peers", {}), {one["peer"] for one in document["results"]}
    peers = [peer for peer in PEERS if peer.name in there and peer is not SHMSYNC]
    lines = [(one.name, known.get(one.name, ""), "yes" if one.crash_safe else "no", one.remark) for one in peers]
    return Table(("peer", "version", "crash-safe", "remark"), lines)


def row_table(results: Sequence[Result]) -> tuple[Table, str]:
    """Return the results of one row, the best first, and the peers that have none, with the reason."""
    found = sorted((one for one in results if "median" in one), key=_order)
    own = {one.get("x"): one["median"] for one in found if one["peer"] == SHMSYNC.name}
    lacking = "; ".join(f"{one['peer']} ({one.get('remark', '')})" for one in results if "median" not in one)
    is_size = max((one.get("x", 0) for one in found), default=0) > _MOST_READERS
    lines = [_line(one, own.get(one.get("x")), is_size=is_size) for one in found]
    return Table(("peer", *_SPREAD, "x shmsync", "remark"), lines), f"Not measured: {lacking}." if lacking else ""


def _order(one: Result) -> tuple[float, float]:
    return one.get("x", 0), one["median"] * (-1 if one["unit"] == "/s" else 1)


def _line(one: Result, own: float | None, *, is_size: bool) -> tuple[str, ...]:
    name = f"{one['peer']} \u2020" if one["peer"] in CRASH_SAFE else one["peer"]
    if "x" in one:
        name += f", {formatted(one['x'], 'bytes')}" if is_size else f", readers: {one['x']}"
    spread = (formatted(one[column], one["unit"]) for column in _SPREAD)
    return name, *spread, digits(one["median"] / own) if own else "", one.get("remark", "")


def write(document: Document, directory: Path) -> list[Path]:
    """Write results.csv into a directory, and fill in the page that has its name, if there is one."""
    made = [directory / "results.csv"]
    with made[0].open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for one in document["results"]:
            writer.writerow(
                {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in one.items()}
            )
    page = directory.with_name(f"{directory.name}.md")
    if page.exists():
        fill(page, document)
        made.append(page)
    return made


def fill(page: Path, document: Document) -> None:
    """Replace the text between the markers of a page.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    targets = target_table(document)
    parts = (f"{target_summary(targets)} {versions(document)}.", targets.markdown(), peer_table(document).markdown())
    page.write_text(before + begin + "\n" + "\n\n".join(parts) + "\n\n" + end + after, encoding="utf-8")
