"""What both of the iceoryx2 peers need: names of their own, so that all that a run makes can be found and removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import iceoryx2

from benchmark.measure import new_name

SHM = Path("/dev/shm")


def name() -> str:
    """Return a new name: of the service, and before that of each file."""
    return new_name("iceoryx")


def node(prefix: str) -> Any:
    """Return a node that knows the services of a prefix only."""
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    config = iceoryx2.config.default()
    config.global_cfg.prefix = iceoryx2.FileName.new(f"{prefix}-")
    config.global_cfg.root_path = iceoryx2.Path.new(str(SHM / prefix))
    return iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)


def service(node: Any) -> Any:
    """Return a builder of the one service."""
    return node.service_builder(iceoryx2.ServiceName.new("value"))


def event(node: Any) -> Any:
    """Return an event service beside it, which the other side may have made."""
    return node.service_builder(iceoryx2.ServiceName.new("changed")).event().open_or_create()


def remove(prefix: str) -> None:
    """Remove what the nodes left: the lock of the cleaner, and whatever a killed reader had."""
    shutil.rmtree(SHM / prefix, ignore_errors=True)
    for left in SHM.glob(f"{prefix}-*"):
        left.unlink(missing_ok=True)
