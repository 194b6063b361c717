"""The generated part of docs/benchmarks.md, and the data beside it."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from bench.results import versions
from bench.tables import peer_table, target_summary, target_table

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Document

BEGIN, END = "<!-- results -->", "<!-- /results -->"
_COLUMNS = ("row", "peer", "unit", "x", "count", "min", "median", "p99", "max", "remark")


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
