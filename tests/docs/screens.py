"""The examples of `shmsync readers` and `shmsync top` in the documentation, printed by the code of the commands.

    python tests/docs/screens.py

writes them into the page, between the marks `<!-- example: NAME -->` and the text that follows.
"""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

from shmsync import (
    HeldSegmentInfo,
    Info,
    InstanceVersion,
    ProcessInfo,
    ReaderInfo,
    RetainedInfo,
    SegmentInfo,
    WriterInfo,
)
from shmsync.cli._infos import readers_lines
from shmsync.cli._sampler import Row
from shmsync.cli._top_view import View

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "monitoring.md"
WIDTH = 100
NOW = 1_800_000_000.0
MIB = 1 << 20
_EXAMPLE = "(<!-- example: {} -->\n\n)(?:```console\n.*?```\n\n)?"


def example_info() -> Info:
    """Return a name with readers in several states."""
    gunicorn = "gunicorn: worker [shop]"
    readers = (
        ReaderInfo(0, 19117, NOW - 720, alive=True, counts=(0, 1), announced=0, evicted=True, retained=(),
                   outdated=95.0, held_memory=16 * MIB, process=ProcessInfo("stopped", "python report.py")),
        ReaderInfo(1, 19116, NOW - 740, alive=True, counts=(0, 0), announced=0, evicted=False, retained=(),
                   held_memory=0, process=ProcessInfo("sleeping", gunicorn)),
        ReaderInfo(2, 19120, NOW - 740, alive=True, counts=(0, 0), announced=0, evicted=False,
                   retained=(RetainedInfo(0, 3, current=True),), held_memory=0,
                   process=ProcessInfo("running", gunicorn)),
    )  # fmt: skip
    segments = (
        SegmentInfo("/prices_state", 4096, 4096),
        SegmentInfo("/prices_readers", 16512, 20480),
        SegmentInfo("/prices_data_0", 16 * MIB, 16 * MIB, generation=3, seq=41),
        SegmentInfo("/prices_data_1", 16 * MIB, 16 * MIB, generation=2, seq=40),
    )
    return Info(
        name="prices", seq=41, version=InstanceVersion(41, 0, 16 * MIB - 4096, 0), codec="archive", age=3.0,
        created=NOW - 86400, layout=1, incarnation=1, max_readers=256, writer=WriterInfo("alive", 18990, NOW - 86400),
        readers=readers, segments=segments, problems=(), readable=True,
        held=(HeldSegmentInfo("/prices_data_1", 9, 16 * MIB, (19117,)),),
    )  # fmt: skip


def examples() -> dict[str, str]:
    """Return the text of each example."""
    info = example_info()
    idle = info._replace(
        name="web-config", seq=7, version=InstanceVersion(7, 0, 812, 0), age=5400.0, readers=info.readers[1:2],
        writer=WriterInfo("dead", 17001, NOW - 9000), held=(), segments=info.segments[:2],
    )  # fmt: skip
    view = View()
    view.update([Row(info, 0.3, 3, 2, 1, 36, True, 95.0), Row(idle, 0.0, 1, 0, 0, None, True, None)])  # noqa: FBT003
    with mock.patch("time.time", return_value=NOW), mock.patch("time.strftime", return_value="12:00:00"):
        found = {
            "readers": ["$ shmsync readers prices", *(line.plain for line in readers_lines(info, WIDTH))],
            "top": ["$ shmsync top", *(line.plain for line in view.lines(WIDTH, 7))],
        }
    return {name: "\n".join(line.rstrip() for line in lines) for name, lines in found.items()}


def with_examples(page: str) -> str:
    """Return a page with its examples replaced."""
    for name, text in examples().items():
        block = f"```console\n{text}\n```\n\n"
        page, count = re.subn(_EXAMPLE.format(name), lambda found: found[1] + block, page, flags=re.DOTALL)  # noqa: B023
        assert count == 1, name
    return page


if __name__ == "__main__":
    PAGE.write_text(with_examples(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
