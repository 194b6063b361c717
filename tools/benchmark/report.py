"""The tables of docs/benchmarks.md, made from what `bench.py --json` prints, so that none of their figures is typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmark.peers import PEERS, SHMSYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Document = dict[str, Any]
Entry = dict[str, Any]
"""One of the figures, rows or claims of a document."""

BEGIN, END = "<!-- results -->", "<!-- /results -->"
CRASH_SAFE = frozenset(peer.name for peer in PEERS if peer.crash_safe)
HEADINGS = {
    "W1 config": "W1: a config, a dict of 1 KiB",
    "W2 array": "W2: an array of 64 MiB",
    "W3 int map": "W3: a map of a million int keys to 10 floats",
    "W3 str map": "W3: a map of a million str keys to 10 floats",
    "W4 config": "W4: a config, writer and readers at full speed",
    "W4 array of 8 MiB": "W4: an array of 8 MiB, writer at full speed",
    "W5 config": "W5: woken by a publish",
    "W6 reader killed": "W6: a reader is killed",
    "W6 writer killed": "W6: the writer is killed",
    "W7 array": "W7: an array that is published non-stop",
    "Space": "Space in use after 100 publishes",
    "Memory": "Memory of readers",
    "Scaling": "shmsync by attached readers and by size",
}
_REMARKS = {peer.name: peer.remark for peer in PEERS}
_VERDICTS = {True: "met", False: "**missed**", None: ""}
_TIMES = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "\u00b5s"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))
_RATES = ((1e3, 1.0, "/s"), (1e6, 1e-3, "k/s"), (float("inf"), 1e-6, "M/s"))
_SIZES = ((1 << 10, 1.0, "B"), (1 << 20, 1 / (1 << 10), "KiB"), (float("inf"), 1 / (1 << 20), "MiB"))
_SCALES = {"s": _TIMES, "/s": _RATES, "bytes": _SIZES}
_NUMBERS = frozenset({"readers", "size", "min", "median", "p99", "value", "x shmsync"})
_LARGE = 1024  # what a row is drawn over is a number of readers if it never exceeds that, else a size


# --------------------------------------------------------------------------------------------------------- for anybody


def entries(document: Document, row: str, x: float | None = None) -> list[Entry]:
    """Return the figures of a row that have values; those at one x, if it is given."""
    found = [figure for figure in document["figures"] if figure["row"] == row and "median" in figure]
    return found if x is None else [figure for figure in found if figure["x"] == x]


def shown(value: float, unit: str) -> str:
    """Return a figure with three digits, in a unit that suits it."""
    for limit, scale, name in _SCALES[unit]:
        if abs(value) < limit * 0.9995:  # what would be rounded to the limit is shown in the next unit
            return f"{_size(value * scale) if unit == 'bytes' else digits(value * scale)} {name}"
    raise AssertionError(value)


def digits(value: float) -> str:
    """Return a number with three digits, or more before the point."""
    return f"{value:.0f}" if abs(value) >= 99.95 or value == 0 else f"{value:#.3g}"


def _size(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"  # most sizes are whole numbers: "64", not "64.0"


def versions(document: Document, peers: Iterable[str] | None = None) -> str:
    """Say what was measured, and on what; of the peers, those given, or all."""
    facts = document["environment"]
    known = facts.get("peers", {})
    named = [f"{peer} {_short(known[peer])}" for peer in (known if peers is None else peers) if peer in known]
    system = f"Linux {facts['kernel'].partition('-')[0]}, {facts['cores']} cores of {facts['cpu']}"
    packages = [name for name in named if " Python " not in name]
    return ", ".join([f"shmsync {facts['shmsync']}", f"Python {facts['python']}", system, *packages])


def _short(version: str) -> str:
    return version.partition(" sha=")[0].replace(", Redis server v=", " with server ")


# ----------------------------------------------------------------------------------------------------------- the page


def write(document: Document, directory: Path) -> list[Path]:
    """Fill in the page that has the directory's name; if there is none, write results.md into the directory."""
    text = results(document)
    page = directory.with_name(directory.name + ".md")
    if page.exists():
        fill(page, text)
        return [page]
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / "results.md"
    page.write_text(text, encoding="utf-8")
    return [page]


def fill(page: Path, results: str) -> None:
    """Put the results between the markers of a page, in place of what stands there.

    Raises:
        ValueError: the page has no such markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{begin}\n{results}\n{end}{after}", encoding="utf-8")


def results(document: Document) -> str:
    """Return all tables as Markdown."""
    parts = [f"{versions(document, ())}.", *_claims(document), *_peers(document)]
    for name, group in _together(document["figures"], lambda figure: str(figure["row"]).partition(":")[0]):
        parts += _folded(HEADINGS.get(name, name), group)
    return "\n\n".join(parts) + "\n"


def _table(columns: Iterable[str], lines: Iterable[tuple[str, ...]]) -> str:
    names = tuple(columns)
    rules = tuple("---:" if name in _NUMBERS else "---" for name in names)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rules, *lines))


def _together(figures: Iterable[Entry], key: Callable[[Entry], str]) -> Iterator[tuple[str, list[Entry]]]:
    """Group by a key; the groups stand in the order of their first figures, wherever the others were."""
    groups: dict[str, list[Entry]] = {}
    for figure in figures:
        groups.setdefault(key(figure), []).append(figure)
    return iter(groups.items())


# --------------------------------------------------------------------------------------------------------- the claims


def _claims(document: Document) -> Iterator[str]:
    lines = [
        *(_limit(row) for row in document.get("rows", ()) if row.get("met") is not None),
        *(_claim(claim) for claim in document.get("claims", ()) if "value" in claim),
    ]
    if lines:
        held = [line[-1] for line in lines if line[-1]]
        missed = held.count(_VERDICTS[False])
        yield "### What shmsync claims"
        yield f"{len(held) - missed} of {len(held)} claims are met, {missed} missed."
        yield _table(("claim", "target", "measured", ""), lines)


def _limit(row: Entry) -> tuple[str, ...]:
    """Return the line of a row that is held against its baseline, or against a limit."""
    key = "subject_us" if "subject_us" in row else "subject_mib"
    unit, scale = ("s", 1e-6) if key == "subject_us" else ("bytes", float(1 << 20))
    median = shown(row[key]["median"] * scale, unit)
    if row.get("target_ratio") is not None:
        base = shown(row[key.replace("subject", "baseline")]["median"] * scale, unit)
        target, measured = (
            f"<= {row['target_ratio']:g} x {row['baseline']}",
            f"{row['ratio']:.2f} x ({median} / {base})",
        )
    else:
        target, measured = f"<= {shown(row[key.replace('subject', 'limit')] * scale, unit)}", median
    return row["row"], target, measured, _VERDICTS[row["met"]]


def _claim(claim: Entry) -> tuple[str, ...]:
    sign, limit = (">=", claim["at_least"]) if "at_least" in claim else ("<=", claim["at_most"])
    target = "" if limit is None else f"{sign} {limit:g}"
    return claim["claim"], target, f"{claim['value']:.2f} ({claim['from']})", _VERDICTS[claim["met"]]


# ----------------------------------------------------------------------------------------------------------- the peers


def _peers(document: Document) -> Iterator[str]:
    there = {figure["peer"] for figure in document["figures"]}
    known = document["environment"].get("peers", {})
    lines = [
        (peer.name, _short(known.get(peer.name, "")), "yes" if peer.crash_safe else "no", peer.remark)
        for peer in PEERS
        if peer.name in there and peer is not SHMSYNC
    ]
    if lines:
        yield "### What it is compared with"
        yield _table(("peer", "version", "crash-safe", "here"), lines)


# ------------------------------------------------------------------------------------------------------- the workloads


def _folded(heading: str, figures: list[Entry]) -> Iterator[str]:
    yield f"### {heading}"
    for row, group in _together(figures, lambda figure: str(figure["row"])):
        name = re.sub("`(.*?)`", r"<code>\1</code>", row.partition(": ")[2] or row)  # it stands between HTML tags
        yield f"<details><summary>{name}</summary>"
        yield from _row(group)
        yield "</details>"


def _row(figures: list[Entry]) -> Iterator[str]:
    measured = sorted((figure for figure in figures if "median" in figure), key=_order)
    if measured:
        columns = _columns(measured)
        yield _table(columns, (tuple(cell(one) for cell in columns.values()) for one in measured))
    if others := [f"{figure['peer']} ({figure['remark']})" for figure in figures if "median" not in figure]:
        yield f"Without figures: {'; '.join(others)}."


def _order(figure: Entry) -> tuple[float, float]:
    """Sort by what the row is drawn over; then the best first."""
    return figure.get("x", 0), figure["median"] * (-1 if figure["unit"] == "/s" else 1)


def _columns(figures: list[Entry]) -> dict[str, Callable[[Entry], str]]:
    """Return what stands in the columns; those that would say nothing are left out."""
    mine = {figure.get("x"): figure["median"] for figure in figures if figure["peer"] == SHMSYNC.name}
    found: dict[str, Callable[[Entry], str]] = {"peer": lambda one: one["peer"]}
    if any("x" in figure for figure in figures):
        is_size = max(figure["x"] for figure in figures) > _LARGE
        found["size" if is_size else "readers"] = lambda one: shown(one["x"], "bytes") if is_size else f"{one['x']:.0f}"
    if any(figure["count"] > 1 for figure in figures):
        for name in ("min", "median", "p99"):
            found[name] = lambda one, name=name: shown(one[name], one["unit"])  # type: ignore[misc]
    else:
        found["value"] = lambda one: shown(one["median"], one["unit"])
    if len(figures) > len(mine) and all(mine.values()):
        found["x shmsync"] = lambda one: digits(one["median"] / mine[one.get("x")]) if one.get("x") in mine else ""
    if any(_remark(figure) for figure in figures):
        found["remark"] = _remark
    return found


def _remark(figure: Entry) -> str:
    """Return what does not hold for all figures of the peer."""
    remark: str = figure.get("remark", "")
    return "" if remark == _REMARKS.get(figure["peer"]) else remark.replace("|", "\\|")
