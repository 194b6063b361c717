"""The command inspect for a version that a replica has received."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from command_line import run, run_json
from helpers import checksum

from shmsync import Origin
from shmsync._handles.receiving import Incoming, ReceivingWriter

if TYPE_CHECKING:
    from shmsync import Writer

EPOCH = 1_700_000_000_123


def test_a_version_of_another_host(name: str) -> None:
    with ReceivingWriter(name) as writer:
        with writer.receive(Incoming(1, 1, checksum(b"x"), Origin(EPOCH, 1234, EPOCH / 1000, 0.0))) as block:
            block.memory[:] = b"x"
        lines = run("inspect", name).out
        assert f"origin      {EPOCH}-1234: version 1,234 of a publisher on another host\n" in lines
        assert re.search(rf"^epoch +{EPOCH}, begun 2023-11-1\d ", lines, re.MULTILINE)
        assert re.search(r"^received +20.*, [\d,]+\.\d ms after it was sent \(by two clocks\)$", lines, re.MULTILINE)
        found = run_json("inspect", name)["origin"]
        assert (found["epoch"], found["seq"]) == (EPOCH, 1234)
        assert set(found) == set(Origin._fields)
        writer.unlink()


def test_a_version_of_this_host(writer: Writer, name: str) -> None:
    writer.write(1)
    assert not re.search(r"^(origin|epoch|received)", run("inspect", name).out, re.MULTILINE)
    assert run_json("inspect", name)["origin"] is None
