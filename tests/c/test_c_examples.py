"""The examples of the page "From C, C++, Rust, Go" compile, and print what the page says."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from compiled import NEEDS_COMPILER, ROOT, compiler, failed, printed, program
from helpers import TIMEOUT, environment

from shmsync import Writer, get_include

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = NEEDS_COMPILER

EXAMPLES = ROOT / "examples" / "c"
PRICES = {"EURUSD": 1.08, "GBPUSD": 1.27}


def check_lookup(path: str, name: str) -> None:
    """Look up prices with a program."""
    for codec in ("msgpack", "archive"):
        with Writer[Any](name, codec=codec) as writer:
            writer.write(PRICES)
            assert printed(path, name, "GBPUSD") == "1.27\n"
            assert "no such key" in failed(path, name, "absent")[0]
            writer.unlink()
    assert "no process has published" in failed(path, name, "GBPUSD")[0]


def run(*command: str, **more: str) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=4 * TIMEOUT, env=environment(**more)
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["gcc", "clang"])
def test_c(name: str, kind: str) -> None:
    check_lookup(program(EXAMPLES / "lookup.c", kind=kind, xxhash=False), name)


def test_the_example_in_the_header(name: str, tmp_path: Path) -> None:
    header = (ROOT / "shmsync" / "include" / "shmsync.h").read_text(encoding="utf-8")
    lines = header[header.index(" *     shmsync *prices;") : header.index("Rules\n")].splitlines()
    body = "\n".join(line.removeprefix(" * ") for line in lines[:-2])
    source = tmp_path / "example.c"
    include = "#define SHMSYNC_IMPLEMENTATION\n#include <shmsync.h>\n#include <stdio.h>\n"
    source.write_text(f"{include}int main(void) {{\n{body}\n    return 0;\n}}\n".replace('"prices"', f'"{name}"'))
    with Writer[Any](name) as writer:
        writer.write(PRICES)
        assert printed(program(source, xxhash=False)) == "1.080000\n"
        writer.unlink()


def test_cpp(name: str) -> None:
    path = program(EXAMPLES / "follow.cpp", kind="g++", xxhash=False)
    with (
        Writer[Any](name) as writer,
        subprocess.Popen([path, name], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        for price in (1.08, 1.09, 0.0):
            writer.write({"EURUSD": price})
            assert process.stdout.readline() == f"{price:.2f}\n"
        assert process.wait(TIMEOUT) == 0
        writer.unlink()


def test_rust(name: str, tmp_path: Path) -> None:
    rustc = shutil.which("rustc")
    if rustc is None:
        pytest.skip("rustc is not installed")
    library, target = tmp_path / "shmsync.o", tmp_path / "lookup"
    header = f"{get_include()}/shmsync.h"
    run(compiler("gcc"), "-O2", "-c", "-DSHMSYNC_IMPLEMENTATION", "-x", "c", header, "-o", str(library))
    run("ar", "rcs", str(tmp_path / "libshmsync.a"), str(library))
    source = str(EXAMPLES / "lookup.rs")
    run(rustc, "-O", "-D", "warnings", "-L", str(tmp_path), "-l", "static=shmsync", source, "-o", str(target))
    check_lookup(str(target), name)


def test_go(name: str, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    target = tmp_path / "lookup"
    folders = {"GOCACHE": str(tmp_path / "cache"), "GOPATH": str(tmp_path / "path"), "CGO_ENABLED": "1"}
    run(go, "build", "-o", str(target), str(EXAMPLES / "lookup.go"), CGO_CFLAGS=f"-I{get_include()}", **folders)
    check_lookup(str(target), name)


def test_every_example_is_on_the_page() -> None:
    page = (ROOT / "docs" / "howto" / "c.md").read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        assert f"```{{literalinclude}} ../../examples/c/{path.name}\n" in page


def test_the_page_names_every_function_and_result() -> None:
    page = (ROOT / "docs" / "howto" / "c.md").read_text(encoding="utf-8")
    header = (ROOT / "shmsync" / "include" / "shmsync.h").read_text(encoding="utf-8")
    declared = header.partition("SHMSYNC_IMPLEMENTATION) && !defined(SHMSYNC_IMPLEMENTED)")[0]
    functions = {
        line.partition("(")[0].split()[-1].lstrip("*")
        for line in declared.splitlines()
        if line.startswith("SHMSYNC_API ")
    }
    results = {line.split()[0] for line in declared.splitlines() if line.startswith("    SHMSYNC_E_")}
    assert len(functions) > 20
    assert len(results) > 10
    assert [each for each in sorted(functions | results) if f"`{each}`" not in page] == []
