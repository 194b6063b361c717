"""The workloads of processes that run at the same time, in the order in which they are run, and how they are shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmark import claims, crash, load, resident, scaling, space
from benchmark.measure import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmark.figures import Figure
    from benchmark.peers import Peer

WORKLOADS: tuple[Callable[..., Iterator[Figure]], ...] = (
    load.full_speed,
    load.unchanged,
    load.beside_writer,
    load.while_publishing,
    crash.reader_killed,
    crash.writer_killed,
    space.after_publishes,
    resident.holders,
    scaling.write_by_readers,
    scaling.read_by_size,
)
_ROW = 82
_SCALES = {"s": (1e6, "us"), "bytes": (1 / (1 << 20), "MiB"), "/s": (1e-3, "k/s")}


def show(peers: Iterable[Peer], text: str, *, quick: bool, as_json: bool) -> None:
    """Run the workloads with a text in their names; print their figures and whether they meet the claims."""
    figures: list[Figure] = []
    for workload in WORKLOADS:
        if text in f"{workload.__module__}.{workload.__name__}":
            for figure in workload(peers, quick=quick):
                figures.append(figure)
                if not as_json:
                    print(_line(figure), flush=True)
    checked = list(claims.check(figures))
    if as_json:
        print(json.dumps({"figures": [figure.as_dict() for figure in figures], "claims": checked}, indent=1))
    else:
        print("", *map(claims.as_text, checked), sep="\n")


def _line(figure: Figure) -> str:
    x = "" if figure.x is None else f"{figure.x:.0f}"
    columns = ""
    if figure.values:
        scale, unit = _SCALES[figure.unit]
        spread = (figure.median, percentile(list(figure.values), 0.99), max(figure.values))
        columns = "".join(f"{value * scale:12.2f}" for value in spread) + f" {unit}"
    return f"{figure.row:{_ROW}}{figure.peer:12}{x:>10}{columns}  {figure.remark}".rstrip()
