"""Compile a C program with the header, once for each set of options of a test session; or say why not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import TIMEOUT, environment

from shmsync import get_include
from stress.c_mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SHMCAT = ROOT / "examples" / "c" / "shmcat.c"
COMPILERS = {"gcc": ("gcc", "-std=c11"), "g++": ("g++", "-std=c++17", "-x", "c++"), "clang": ("clang", "-std=c11")}
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
THREAD_SANITIZER = ("-fno-sanitize=all", "-fsanitize=thread", "-pthread")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
_ALSO = {"clang": [f"clang-{version}" for version in range(21, 11, -1)]}
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: gcc is not installed")
"""Of each test module: a test that finds none later could have published something."""
_FOLDER = tempfile.TemporaryDirectory(prefix="shmsync-c-", ignore_cleanup_errors=True)


def compiler(kind: str) -> str:
    """Return the command of a compiler; skip the test if it is not installed."""
    command: str
    for command in (COMPILERS[kind][0], *_ALSO.get(kind, ())):
        if shutil.which(command):
            return command
    pytest.skip(f"no C compiler: {kind} is not installed")


@cache
def _run(*command: str) -> str:
    """Run a command once; return its errors."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    return str(done.stderr) if done.returncode else ""


@cache
def sanitizers(kind: str) -> tuple[str, ...]:
    """Return the options of the sanitizers; none if this compiler came without their libraries."""
    source, target = Path(_FOLDER.name) / "empty.c", Path(_FOLDER.name) / "empty"
    source.write_text("int main(void) { return 0; }\n")
    failed = _run(compiler(kind), *COMPILERS[kind][1:], *SANITIZERS, str(source), "-o", str(target))
    return ("-O1",) if failed else SANITIZERS


def has_thread_sanitizer() -> bool:
    """Return whether programs with the thread sanitizer can be linked, and run on this machine."""
    source, target = Path(_FOLDER.name) / "empty.c", Path(_FOLDER.name) / "empty-thread"
    source.write_text("int main(void) { return 0; }\n")
    failed = _run(compiler("gcc"), *THREAD_SANITIZER, str(source), "-o", str(target))
    return not failed and subprocess.run([str(target)], check=False, capture_output=True).returncode == 0


def xxhash_of_pyarrow() -> str | None:
    """Return the folder of the xxhash.h that is part of pyarrow, which the extra `test` installs; None without it."""
    spec = importlib.util.find_spec("pyarrow")
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root) / "include" / "arrow" / "vendored" / "xxhash"
        if (folder / "xxhash.h").is_file():
            return str(folder)
    return None


def xxhash_options() -> tuple[str, ...] | None:
    """Return the options with which xxhash.h is found; None if it is not on this machine."""
    if Path("/usr/include/xxhash.h").is_file():
        return ()
    folder = xxhash_of_pyarrow()
    return None if folder is None else ("-I", folder)


def program(source: Path, *options: str, kind: str = "gcc", xxhash: bool = True) -> str:
    """Compile a program; return its path.

    Args:
        source: the program.
        options: further options.
        kind: the compiler.
        xxhash: whether to compile with xxhash.h; the test is skipped if it is not on this machine.
    """
    found = xxhash_options()
    if xxhash and found is None:
        pytest.skip("no xxhash.h: neither libxxhash-dev nor pyarrow is installed")
    hashing = found if xxhash and found is not None else ("-DSHMSYNC_NO_XXHASH",)
    target = Path(_FOLDER.name) / f"{source.stem}-{kind}-{hash((options, hashing)):x}"
    command = (compiler(kind), *COMPILERS[kind][1:], *WARNINGS, *sanitizers(kind), *hashing, *options)
    errors = _run(*command, "-I", get_include(), str(source), "-o", str(target), "-lm", "-pthread")
    assert not errors, errors
    return str(target)


@cache
def mutant(name: str) -> tuple[str, ...]:
    """Return the options with which a wrong variant of the header is included; see `MUTANTS`."""
    folder = Path(_FOLDER.name) / f"mutant-{name}"
    folder.mkdir()
    MUTANTS[name].write(str(folder))
    return ("-I", str(folder))


class Driver:
    """The program `driver.c`, told what to do."""

    def __init__(self, name: str, *options: str, user: int | None = None, **kind: Any) -> None:
        path = program(HERE / "driver.c", *options, **kind)
        more: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        if user is not None:
            os.chmod(_FOLDER.name, 0o755)  # noqa: PTH101 - it runs the program
        self.process = subprocess.Popen(
            [path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), **more
        )
        assert self.receive() == "0"

    def send(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def receive(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        return line.rstrip("\n")

    def call(self, *words: object) -> str:
        self.send(*words)
        return self.receive()

    def result(self, *words: object) -> int:
        return int(self.call(*words))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            if exc_type is None and self.process.poll() is None:
                self.process.stdin.close()
                assert self.process.wait(TIMEOUT) == 0  # a sanitizer reports at the end, too
        finally:
            self.process.kill()
            self.process.wait(TIMEOUT)
            if not self.process.stdin.closed:
                self.process.stdin.close()
            self.process.stdout.close()


def printed(*command: str) -> str:
    """Return what a command prints; it has to succeed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def failed(*command: str) -> Sequence[str]:
    """Return the lines of the errors of a command, which has to fail without a crash."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1, (done.returncode, done.stderr)
    return done.stderr.splitlines()
