"""The sdist and the wheel, and the wheel with its core dependencies only on every supported Python found here.

    pytest tests/packaging --wheel

Searches for interpreters on PATH and in ~/.pyenv/versions. Needs the package `build`, and a C compiler for
dependencies without a wheel. The wheel is built from the sdist, which tests the sdist. Do not add `-n`: each worker
would build in the same directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
SMOKE = Path(__file__).parent / "smoke.py"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
TIMEOUT = 300.0
"""Seconds after which a command is considered to hang."""

pytestmark = pytest.mark.timeout(0)


@pytest.fixture(scope="session")
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel, built from the sdist."""
    if not request.config.getoption("--wheel"):
        pytest.skip("needs --wheel")
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, ROOT)
    assert len(list(directory.glob("*.tar.gz"))) == 1
    (wheel,) = directory.glob("*.whl")
    yield wheel
    shutil.rmtree(directory)


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command; if it fails, fail with its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # use what is installed
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT, cwd=cwd, env=environment
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


@cache
def interpreter(version: str) -> Path | None:
    """Return an interpreter of this version, or None."""
    on_path = shutil.which(f"python{version}")
    installed = Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")
    for candidate in ([on_path] if on_path else []) + [str(path) for path in sorted(installed)]:
        question = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
        answer = subprocess.run(question, check=False, capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.split()[0] == version:
            return Path(answer.stdout.split(maxsplit=1)[1].strip())
    return None


def test_wheel_holds_every_module_and_the_header(wheel: Path) -> None:
    kept = {".py", ".h"}
    files = {path for path in (ROOT / "shmsync").rglob("*") if path.suffix in kept or path.name == "py.typed"}
    assert "shmsync.h" in {path.name for path in files}
    expected = {str(path.relative_to(ROOT)) for path in files}
    with zipfile.ZipFile(wheel) as archive:
        assert expected <= set(archive.namelist())


def test_a_supported_python_is_found(wheel: Path) -> None:
    assert any(map(interpreter, VERSIONS)), f"found none of Python {', '.join(VERSIONS)}"


@pytest.mark.parametrize("version", VERSIONS)
def test_wheel_works_with_core_dependencies_only(wheel: Path, version: str, tmp_path: Path, name: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    environment = tmp_path / "venv"
    run(python, "-m", "venv", environment)
    pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "install", wheel)
    run(*pip, "check")
    run(environment / "bin" / "python", SMOKE, name, cwd=tmp_path)
    shutil.rmtree(environment)
