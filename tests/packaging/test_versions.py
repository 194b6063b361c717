"""The supported Pythons are the same wherever they are listed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from test_wheel import VERSIONS

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_supported_pythons() -> None:
    import tomllib  # noqa: PLC0415 - not in 3.10

    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    classifiers = described["project"]["classifiers"]
    assert tuple(re.findall(r":: Python :: (3\.\d+)\b", "\n".join(classifiers))) == VERSIONS
    assert described["project"]["requires-python"] == f">={VERSIONS[0]}"
    environments = described["tool"]["tox"]["env_list"]
    assert tuple(f"3.{each[3:]}" for each in environments if each.startswith("py")) == VERSIONS
    (matrix,) = re.findall(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert tuple(re.findall(r'"([\d.]+)"', matrix)) == VERSIONS
