"""The examples of README run, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from shmsync import Writer

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_run(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    names = set(re.findall(r'(?:Writer|Reader)\("(\w+)"', "".join(blocks)))
    variables: dict[str, object] = {}
    try:
        for block in blocks:
            exec(re.sub(rf'"({"|".join(names)})"', rf'"{name}-\1"', block), variables)
        assert variables["reader"].get()[:4] == b"\0\0\x80\x3f"  # type: ignore[attr-defined]
    finally:
        variables.clear()
        for each in names:
            with Writer(f"{name}-{each}") as writer:
                writer.unlink()
