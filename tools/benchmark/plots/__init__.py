"""Charts of what `bench.py --json` prints, as SVG and PNG; a chart whose rows are not there is left out.

shmsync is blue in all of them. A peer of which a process can be killed anywhere without harm to the others has a full
mark, any other one a hollow mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.plots import full_speed, latency, memory, scaling
from benchmark.plots.sheet import save, styled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from benchmark.report import Document

CHARTS: dict[str, Callable[[Document], Figure | None]] = {
    "latency-config": latency.config,
    "latency-array": latency.array,
    "latency-map": latency.int_map,
    "memory": memory.memory,
    "size": scaling.size,
    "tail": full_speed.tail,
    "throughput": full_speed.throughput,
    "readers": scaling.readers,
    "space": memory.space,
}
"""By the names of their files."""


def draw(document: Document, directory: Path) -> list[Path]:
    """Draw all charts of which there are figures; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with styled():
        for name, chart in CHARTS.items():
            if (figure := chart(document)) is not None:
                made += save(figure, directory, name)
    return made
