"""The workloads of processes that run at the same time, in the order in which they are run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmark.figures import Figure

WORKLOADS: tuple[Callable[..., Iterator[Figure]], ...] = (
    load.full_speed,
    load.unchanged,
    load.beside_writer,
    load.while_publishing,
)
