"""The tables and charts are made from the JSON, the same each time; what is not there is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from helpers import Child, Held

from benchmark import report
from benchmark.figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ("W1 config: get(), unchanged", "W1 config: get(), changed, polling", "W1 config: write()")


def document(*figures: Figure) -> dict[str, Any]:
    facts = {"shmsync": "1", "python": "3.11", "kernel": "6.18-x", "cpu": "CPU", "cores": 2, "peers": {"LMDB": "3.0"}}
    return {"environment": facts, "rows": [], "figures": [figure.as_dict() for figure in figures]}


def calls() -> dict[str, Any]:
    both = [Figure(row, peer, "s", (1e-6, 2e-6)) for row in ROWS for peer in ("shmsync", "LMDB")]
    return document(*both, Figure(ROWS[0], "Redis", "text", remark="not installed: pip install redis"))


def test_figures_are_shown_in_units_that_suit_them() -> None:
    found = [report.shown(value, "s") for value in (7e-8, 9.999e-7, 1.5e-3, 2.0)]
    assert found == ["70.0 ns", "1.00 \u00b5s", "1.50 ms", "2.00 s"]
    assert [report.shown(value, "bytes") for value in (0, 64, 1 << 20)] == ["0 B", "64 B", "1 MiB"]


def test_the_page_is_filled_in_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        assert report.write(calls(), tmp_path / "page") == [page]
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n\n")
    assert text.endswith(f"\n{report.END}\nafter\n")
    assert "old" not in text
    assert "| LMDB | 1.00 \u00b5s | 1.50 \u00b5s | 2.00 \u00b5s | 1.00 |" in text
    assert "Redis (not installed: pip install redis)" in text


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no lines"):
        report.fill(page, "results")
    assert page.read_text() == "nothing"


def draw(_: Held, figures: dict[str, Any], directory: Path) -> list[Path]:
    from benchmark import plots  # noqa: PLC0415 - it needs matplotlib

    return plots.draw(figures, directory)


def test_charts_are_the_same_each_time_and_only_of_what_is_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with Child() as child:  # matplotlib keeps its fonts open
        assert child.ask(draw, document(), tmp_path) == []
        made = child.ask(draw, calls(), tmp_path)
        assert [path.name for path in made] == ["latency-config.svg", "latency-config.png"]
        first = [path.read_bytes() for path in made]
        assert [path.read_bytes() for path in child.ask(draw, calls(), tmp_path)] == first
    assert b"<text" in first[0]
