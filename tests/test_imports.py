"""What is imported, and when. Modules are counted, not time; docs/contributing.md gives the rule."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import TIMEOUT

import shmsync
from shmsync import codecs
from shmsync.codecs import _registry

HEAVY = {
    *("ast", "asyncio", "concurrent", "ctypes", "dataclasses", "hashlib", "inspect", "multiprocessing", "pathlib"),
    *("random", "secrets", "socket", "ssl", "subprocess", "urllib", "atomics", "cffi", "pycparser", "numpy", "msgspec"),
    *("pyarrow", "pydantic", "prometheus_client", "rich", "typer", "click", "gevent", "eventlet", "greenlet"),
}
"""Libraries that `import shmsync` does without."""
HEAVY_FOR_A_HANDLE = HEAVY - {"pathlib", "urllib"}
"""Libraries that a handle does without. It imports the types that msgpack values may have: pathlib, decimal, uuid."""
HEAVY_FOR_A_COMMAND = {
    *("asyncio", "ctypes", "multiprocessing", "socket", "ssl", "atomics", "cffi", "pycparser", "numpy", "msgspec"),
    *("pyarrow", "pydantic", "pydantic_core", "prometheus_client", "rich", "gevent", "eventlet", "greenlet"),
}
"""Libraries that a command without parameters does without; typer imports some of the others."""
STANDARD = """
import logging, typing
class _(typing.NamedTuple):
    field: "int"
standard = set(sys.modules)
"""
"""What shmsync cannot do without. It imports ast, dataclasses and inspect in Python 3.14; ast and pathlib in 3.15."""
STANDARD_FOR_A_HANDLE = f"import uuid\n{STANDARD}"
"""uuid imports subprocess in Python 3.10."""

MAX_OWN_MODULES = {"import shmsync": 81, "import shmsync; shmsync.Reader('x')": 105}
"""How many modules of shmsync are imported."""
MAX_MODULES = {"import shmsync": 103, "import shmsync; shmsync.Reader('x')": 154}
"""How many besides those of `STANDARD_FOR_A_HANDLE`."""

HANDLES = """
import shmsync
writer, reader = shmsync.Writer({name!r}, codec={codec!r}), shmsync.Reader({name!r})
constructed = set(sys.modules)
for number in 1, 2:
    writer.write({value})
    assert reader.get() is not None
with reader.read(check_bytes=True):
    pass
reader.close(); writer.unlink(); writer.close()
"""
EXTENSIONS = """[
    number, {1}, 1 << 70, 1j, range(3), sys.modules["decimal"].Decimal(1), sys.modules["uuid"].UUID(int=1),
    sys.modules["pathlib"].Path("x"), sys.modules["datetime"].datetime.fromtimestamp(1),
    sys.modules["datetime"].datetime.fromtimestamp(1, sys.modules["datetime"].timezone.utc),
    sys.modules["datetime"].datetime.fromtimestamp(1, sys.modules["zoneinfo"].ZoneInfo("Europe/Paris")),
]"""
COMMAND = """
from shmsync.__main__ import main
sys.argv = ["shmsync", *{command!r}]
try:
    main()
except SystemExit:  # its status may tell of names of other programs
    pass
"""


def modules_after(code: str, since: str = "set()", **environment: str) -> set[str]:
    """Run code in a fresh interpreter; return which modules it has imported then, those in `since` excepted.

    Without `site`: the `.pth` files of an environment may import anything.
    """
    script = f"import sys\n{code}\nprint('\\n', *set(sys.modules).difference({since}))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def libraries(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_an_import_of_shmsync() -> None:
    modules = modules_after(f"{STANDARD}import shmsync", since="standard")
    assert not libraries(modules) & HEAVY
    assert not {"shmsync.codecs.archive", "shmsync.codecs.pickle", "shmsync.cli"} & modules
    assert not {"shmsync.codecs.msgpack", "shmsync._inspect", "shmsync._info_types", "datetime", "msgpack"} & modules


@pytest.mark.parametrize("code", MAX_MODULES)
def test_number_of_modules(code: str) -> None:
    modules = modules_after(STANDARD_FOR_A_HANDLE + code, since="standard")
    own = {module for module in modules if module.partition(".")[0] == "shmsync"}
    assert len(own) <= MAX_OWN_MODULES[code], sorted(own)
    assert len(modules) <= MAX_MODULES[code], sorted(modules)


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        ("msgpack", "{number: 'x'}"),
        ("msgpack", EXTENSIONS),
        ("raw", "b'x'"),
        ("archive", "{number: ['x', {'k': 1.5}]}"),
    ],
    ids=["msgpack", "extensions", "raw", "archive"],
)
def test_handles(name: str, codec: str, value: str) -> None:
    """Writes and reads import nothing: they may run in a signal handler, or in a child with a locked import."""
    code = HANDLES.format(name=name, codec=codec, value=value)
    assert not libraries(modules_after(STANDARD_FOR_A_HANDLE + code, since="standard")) & HEAVY_FOR_A_HANDLE
    assert modules_after(code, since="constructed") == set()


def test_a_fork(name: str) -> None:
    """A child may have another user, who cannot read the Python installation."""
    code = f"""
import os, numpy, shmsync
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
forked = set(sys.modules)
for codec in "msgpack", "raw", "archive", "pickle":
    writer, reader = shmsync.Writer({name!r}, codec=codec), shmsync.Reader({name!r}, allow_pickle=True)
    assert reader.get(default=None) is None
    writer.write(b"x")
    if codec in ("msgpack", "archive"):
        writer.write({{"a": numpy.zeros(9)}})
        with writer.update() as draft:
            draft["a"][0] = 1
            draft["a"][[3, 3]] += 1
            draft["a"][draft["a"] > 0] = 5
            draft["a"].add([1, 1], 1)
            draft["a"] += 1
        keys = numpy.arange(5000)
        writer.write({{"a": keys.astype(float), "b": keys}})
        for _ in range(3):
            with writer.update() as draft:
                draft["a"][keys[::7]] = 1
        if codec == "archive":
            writer.write(shmsync.ArrayMap(keys, numpy.zeros((5000, 3))))
            with writer.update() as draft:
                draft.update([1, 1, 2], numpy.ones((3, 3)))
                draft.update(keys[::3], numpy.ones((1667, 3)))
    writer.write(b"x")
    with reader.read(check_bytes=True) as snapshot:
        assert bytes(snapshot.value) == b"x"
    assert reader.wait(timeout=0) is None
    for wrong in (lambda: writer.write(lambda: 0), lambda: shmsync.Reader({name!r} + "-nope").get()):
        try:
            wrong()
        except shmsync.ShmSyncError:
            pass
    assert shmsync.info({name!r}).readers
    reader.close(); writer.unlink(); writer.close()
print(); os.write(1, (" ".join(set(sys.modules) - forked) + chr(10)).encode()); os._exit(0)
"""
    command = [sys.executable, "-c", f"import sys{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_reader_has_imported_all_codecs() -> None:
    modules = modules_after("import shmsync; shmsync.Reader('x')")
    assert {f"shmsync.codecs.{codec}" for codec in _registry.NAMES.values()} <= modules


def test_codecs_have_the_names_that_are_listed() -> None:
    codecs.load()
    assert {number: codec.NAME for number, codec in _registry._BY_ID.items()} == _registry.NAMES


@pytest.mark.parametrize("command", [["ls"], ["ls", "-q", "-s", "size"], ["get", "no-such-name"], ["--version"]])
def test_a_command(command: list[str]) -> None:
    modules = modules_after(COMMAND.format(command=command), FORCE_COLOR="", TTY_COMPATIBLE="", TTY_INTERACTIVE="")
    assert not libraries(modules) & HEAVY_FOR_A_COMMAND
    if command[0] == "get":
        return
    assert {module for module in modules if module.startswith("shmsync.cli.")} <= {
        *("shmsync.cli.ls", "shmsync.cli._infos", "shmsync.cli._names", "shmsync.cli._options"),
        *("shmsync.cli._output", "shmsync.cli._table", "shmsync.cli._units", "shmsync.cli._usage"),
    }


def test_names_that_are_imported_on_first_use() -> None:
    lazy = "import shmsync; value = shmsync.ArrayMap; assert value is shmsync.codecs.archive.ArrayMap"
    assert "shmsync.codecs.archive" in modules_after(lazy)
    assert "shmsync.codecs.archive" in modules_after("from shmsync import *; ArchivedMap, unarchive")
    assert "shmsync._inspect.inspector" in modules_after("from shmsync import info, names, readers")
    assert "shmsync._inspect" not in modules_after("from shmsync import Info, ReaderInfo")
    assert set(shmsync.__all__) <= set(dir(shmsync))
    with pytest.raises(AttributeError, match="module 'shmsync' has no attribute 'Redaer'"):
        shmsync.Redaer  # type: ignore[attr-defined]  # noqa: B018


def test_an_installation_that_this_process_may_not_read() -> None:
    """As after a change of user or of the root directory."""
    code = """
import sys, shmsync
sys.modules["zoneinfo"] = None
for kind in (shmsync.Writer, shmsync.Reader):
    try:
        kind("x")
    except shmsync.DataReadError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert done.stdout.count("construct a first handle before") == 2
