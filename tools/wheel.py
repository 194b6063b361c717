"""Build sdist and wheel, and try the wheel, with its core dependencies only, on every supported Python that is here.

Looks for python3.10 to python3.13 on PATH and in ~/.pyenv/versions. Needs the package `build`, and for dependencies
without a wheel a C compiler. The sdist is proved by the way: the wheel is built from it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
PATIENCE = 300.0
"""Seconds after which a command is taken to hang."""

SMOKE = """
import importlib.util, subprocess, sys
from pathlib import Path
import shmsync

home = Path(shmsync.__file__).parent
assert home.is_relative_to(sys.prefix), home
assert (home / "py.typed").is_file()
assert importlib.util.find_spec("numpy") is None

reader = "import sys, shmsync; print(shmsync.Reader(sys.argv[1]).get())"
writer = shmsync.Writer(sys.argv[1])
try:
    for value in ({"eur": 1.08}, [1, 2, 3]):
        writer.write(value)
        read = subprocess.run([sys.executable, "-c", reader, sys.argv[1]], check=True, capture_output=True, text=True)
        assert read.stdout == f"{value}\\n", read.stdout
finally:
    writer.unlink()

hint = subprocess.run([Path(sys.executable).parent / "shmsync"], check=False, capture_output=True, text=True)
assert hint.returncode == 2 and hint.stderr.endswith("pip install 'shmsync[cli]'\\n"), hint
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command; return what it prints. If it fails, its output goes with the error."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


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


def try_wheel(wheel: Path, version: str, python: Path) -> str:
    """Install the wheel into an environment of its own, and use it there."""
    start = time.monotonic()
    home = wheel.parent / version
    run(python, "-m", "venv", home)
    pip = (home / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "install", wheel)
    run(*pip, "check")
    run(home / "bin" / "python", "-c", SMOKE, f"wheel-{wheel.parent.name}-{version}", cwd=home)
    return f"Python {version}: ok, {time.monotonic() - start:.0f} s"


def missing_from(wheel: Path) -> set[str]:
    """Return the files of the package that are not in the wheel."""
    files = {path for path in (ROOT / "shmsync").rglob("*") if path.suffix == ".py" or path.name == "py.typed"}
    return {str(path.relative_to(ROOT)) for path in files} - set(zipfile.ZipFile(wheel).namelist())


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        run(sys.executable, "-m", "build", "--outdir", work, ROOT)
        (wheel,) = work.glob("*.whl")
        (sdist,) = work.glob("*.tar.gz")
        print(f"built {sdist.name}, {wheel.name}")
        if missing := missing_from(wheel):
            raise SystemExit(f"not in the wheel: {', '.join(sorted(missing))}")
        found = {version: python for version in VERSIONS if (python := interpreter(version))}
        if not found:
            raise SystemExit(f"found no Python {', '.join(VERSIONS)}")
        with ThreadPoolExecutor(2) as pool:
            for line in pool.map(partial(try_wheel, wheel), found, found.values()):
                print(line)
        for version in sorted(set(VERSIONS) - set(found)):
            print(f"Python {version}: not here, not tried")


if __name__ == "__main__":
    main()
