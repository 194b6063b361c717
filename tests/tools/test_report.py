"""The page, the data and the charts are made from the results, the same each time; what is not there is left out."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest
from helpers import Child, State

from bench import report, settings
from bench.results import Result, formatted, result

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ("W1 config: get(), unchanged", "W1 config: get(), changed, polling", "W1 config: write()")


def document(*results: Result) -> dict[str, Any]:
    facts = {"shmsync": "1", "python": "3.11", "kernel": "6.18-x", "cpu": "CPU", "cores": 2, "peers": {"LMDB": "3.0"}}
    target = {"target": "get()", "at_most": 0.5, "value": 0.4, "met": True, "from": "2 / 5 of LMDB"}
    missed = {"row": "write()", "baseline": "a copy", "ratio": 2.0, "target_ratio": 1.5, "met": False}
    missed |= {"unit": "s", "limit": None, "subject": {"median": 2e-6}, "reference": {"median": 1e-6}}
    return {"environment": facts, "rows": [missed], "results": list(results), "targets": [target]}


def calls() -> dict[str, Any]:
    both = [result(row, peer, "s", (1e-6, 2e-6)) for row in ROWS for peer in ("shmsync", "LMDB")]
    return document(*both, result(ROWS[0], "Redis", remark="not installed: pip install redis"))


def test_values_are_formatted_in_units_that_fit() -> None:
    found = [formatted(value, "s") for value in (7e-8, 9.999e-7, 1.5e-3, 2.0)]
    assert found == ["70.0 ns", "1.00 \u00b5s", "1.50 ms", "2.00 s"]
    assert [formatted(value, "bytes") for value in (0, 64, 1 << 20)] == ["0 B", "64 B", "1 MiB"]


def test_a_result_has_the_statistics_of_its_sample() -> None:
    found = result("row", "peer", "s", [float(value) for value in range(1, 201)])
    assert [found[name] for name in ("count", "min", "median", "p99", "max")] == [200, 1.0, 100.5, 198.0, 200.0]


def test_the_page_is_filled_in_between_its_markers(tmp_path: Path) -> None:
    page, data = tmp_path / "page.md", tmp_path / "page"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    data.mkdir()
    for _ in range(2):
        assert report.write(calls(), data) == [data / "results.csv", page]
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n\nPerformance targets: 1 of 2 met. shmsync 1, ")
    assert text.endswith(f"\n\n{report.END}\nafter\n")
    assert "old" not in text
    assert "| write() / a copy | <= 1.5 | 2.00 (2.00 \u00b5s / 1.00 \u00b5s) | **missed** |" in text
    assert "| get() | <= 0.5 | 0.40 (2 / 5 of LMDB) | met |" in text
    assert "| LMDB | 3.0 | yes |" in text


def test_the_data_has_a_line_for_each_result(tmp_path: Path) -> None:
    (made,) = report.write(calls(), tmp_path)
    lines = list(csv.DictReader(made.read_text().splitlines()))
    assert (lines[1]["peer"], lines[1]["median"], lines[1]["remark"]) == ("LMDB", "1.5e-06", "")
    assert (lines[-1]["peer"], lines[-1]["median"], lines[-1]["remark"][:13]) == ("Redis", "", "not installed")


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no lines"):
        report.fill(page, calls())
    assert page.read_text() == "nothing"


def updates() -> dict[str, Any]:
    counts = settings.UPDATED["int map"]
    return document(*(result(settings.update_of("int map", count), "shmsync", "s", (count,), 1) for count in counts))


def draw(_: State, results: dict[str, Any], directory: Path) -> list[Path]:
    from bench import plots  # noqa: PLC0415 - it needs matplotlib

    return plots.draw(results, directory)


def test_charts_are_the_same_each_time_and_only_of_what_is_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with Child() as child:  # matplotlib keeps its fonts open
        assert child.call(draw, document(), tmp_path) == []
        made = child.call(draw, calls(), tmp_path)
        assert [path.name for path in made] == ["latency-config.svg", "latency-config.png"]
        first = [path.read_bytes() for path in made]
        assert [path.read_bytes() for path in child.call(draw, calls(), tmp_path)] == first
        made = child.call(draw, updates(), tmp_path)
        assert [path.name for path in made] == ["updates.svg", "updates.png"]
    assert b"<text" in first[0]
    assert all(f">{share}</text>" in made[0].read_text() for share in ("0.0001 %", "0.1 %", "100 %"))
