"""The command get, and how values are printed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from command_line import run, run_failing, run_in_terminal, run_json

from shmsync import ArrayMap, Writer
from shmsync.cli import _key_path
from shmsync.cli._pretty import Limits, pretty
from shmsync.cli._shape import shape_lines, shape_of

VALUE: dict[Any, Any] = {"a": {"b": [1, 2.5, None, True]}, "x.y": "dots", 17: "number", "blob": b"\x00\x01"}


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_get(name: str, codec: str) -> None:
    with Writer(name, codec=codec) as writer:
        writer.write(VALUE)
        assert json.loads(run("get", name).out) == {
            "a": {"b": [1, 2.5, None, True]},
            "x.y": "dots",
            "17": "number",
            "blob": {"base64": "AAE="},
        }
        assert run_json("get", name, "a.b.1") == 2.5
        assert run_json("get", name, "a", "b", "0") == 1
        assert run_json("get", name, "x.y") == "dots"
        assert run_json("get", name, "17") == "number"
        assert run("get", name, "blob", "--raw").raw == b"\x00\x01"
        assert run("get", name, "x.y", "--raw").raw == b"dots"
        assert "which has 4 keys: a, x.y, 17, blob" in run_failing("get", name, "c")
        assert "no item 9 in a.b" in run_failing("get", name, "a.b.9")
        assert "which is of type int" in run_failing("get", name, "a.b.0.c")
        assert "omit --raw" in run_failing("get", name, "a", "--raw")
        writer.unlink()


def test_get_of_raw_bytes_and_of_pickles(name: str) -> None:
    with Writer(name, codec="pickle") as writer:
        writer.write_raw(bytes(range(256)))
        assert run("get", name, "--raw").raw == bytes(range(256))
        assert f"shmsync get {name} --raw" in run_failing("get", name)
        writer.write({1, 2})
        assert "does not decode" in run_failing("get", name)
        writer.unlink()


def test_paths_and_json() -> None:
    assert _key_path.resolve({"a.b": {"c": 1}}, ["a.b", "c"]) == 1
    assert _key_path.resolve({(1, 2): "tuple", None: "none", True: "yes"}, ["[1, 2]"]) == "tuple"
    assert _key_path.resolve({None: "none"}, ["null"]) == "none"
    assert _key_path.resolve({"a": np.arange(6).reshape(2, 3)}, ["a.1.2"]) == 5
    plain = _key_path.to_json({"nan": float("nan"), "inf": -np.inf, "array": np.eye(2, dtype="f4"), (1, 2): np.int8(3)})
    assert plain == {"nan": "NaN", "inf": "-Infinity", "array": [[1.0, 0.0], [0.0, 1.0]], "[1, 2]": 3}
    with pytest.raises(_key_path.NoSuchKeyError, match="is not an integer"):
        _key_path.resolve([1], ["a"])


def test_get_of_arrays(name: str) -> None:
    with Writer(name, codec="archive") as writer:
        writer.write(ArrayMap(np.array([3, 5]), np.ones((2, 2))))
        assert run_json("get", name, "5") == [1.0, 1.0]
        assert run_json("get", name) == {"3": [1.0, 1.0], "5": [1.0, 1.0]}
        for keys in (np.array([3, 5]), ["3", "5"]):
            writer.write(ArrayMap(keys, np.ones((2, 2)), capacity=1000))
            with writer.update() as draft:
                draft[keys[0]] = np.zeros(2)
                del draft[keys[1]]
            assert run_json("get", name) == {"3": [0.0, 0.0]}
            assert run_json("get", name, "3") == [0.0, 0.0]
            assert run("get", name, "--type").out.splitlines()[0] == "ArchivedMap, 1 key"
            assert run("get", name, "5").status == 1
        writer.unlink()


def test_a_terminal_gets_indented_and_shortened_json(name: str) -> None:
    with Writer(name) as writer:
        writer.write({"levels": list(range(1000)), "text": "x" * 1000, "blob": bytes(100), "map": {"a": {"b": 1}}})
        done = run_in_terminal("get", name)
        assert done.status == 0
        assert done.out.splitlines() == [
            "{",
            '  "levels": [',
            "    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,",
            "    ... 980 more items",
            "  ],",
            *done.out.splitlines()[5:-3],
            '  "map": {"a": {"b": 1}}',
            "}",
            "shortened; --full prints everything, and so does a pipe",
        ]
        assert '" ... 600 more characters,\n' in done.out
        assert '" ... 52 more bytes,\n' in done.out
        full = run_in_terminal("get", name, "levels", "--full").out
        assert json.loads(full) == list(range(1000))
        assert len(full.splitlines()) > 10
        assert json.loads(run_in_terminal("get", name, "levels", "-j").out.replace("\n", "")) == list(range(1000))
        assert json.loads(run("get", name).out)["levels"] == list(range(1000))
        writer.unlink()


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_lines_fit(width: int) -> None:
    value = {"numbers": list(range(500)), "rows": [[1, 2], [3, 4]] * 20, "map": {str(each): each for each in range(99)}}
    lines, is_shortened = pretty(value, width, Limits())
    assert is_shortened
    assert max(map(len, lines)) <= max(width, len("    ... 480 more items,"))
    assert pretty({"a": [1, "x"], "b": {}}, 80, Limits()) == (['{"a": [1, "x"], "b": {}}'], False)


def test_arrays_are_shortened_before_they_are_converted() -> None:
    array = np.broadcast_to(np.uint8(7), (10**9, 10**9))
    lines, _ = pretty({"array": array}, 80, Limits())
    assert lines[2] == "    [7, 7, 7, 7, 7, 7, ... 999,999,994 more items],"
    assert lines[-3] == "    ... 999,999,992 more items"


def test_nothing_that_controls_a_terminal_is_printed() -> None:
    text = "\x1b[31m\x9b31m\u202e\ud800\u2028"
    lines, _ = pretty({text: [text]}, 200, Limits())
    assert lines == ['{"' + (escaped := r"\u001b[31m\u009b31m\u202e\ud800\u2028") + f'": ["{escaped}"]}}']


def test_a_terminal_without_unicode(name: str) -> None:
    with Writer(name) as writer:
        writer.write({"a": "\u00e4"})
        done = run_in_terminal("get", name, PYTHONIOENCODING="ascii")
        assert (done.status, done.out) == (0, '{"a": "\\xe4"}\n')
        writer.unlink()


def test_the_type_of_a_value(name: str) -> None:
    value = {
        "weights": np.zeros((3, 4), "f4"),
        "threshold": 0.5,
        "labels": ["cat", "dog"],
        "users": {str(each): {"id": each, "name": "x" * each} for each in range(100)},
        "rows": [{"a": None}, {"a": 1}],
        "blob": bytes(2048),
    }
    with Writer(name) as writer:
        writer.write(value)
        done = run("get", name, "--type")
        assert done.out.splitlines() == [
            "dict, 6 keys",
            "  weights: float32 array of shape (3, 4), 48 B",
            "  threshold: float",
            "  labels: list, 2 items of str",
            "  users: dict, 100 keys",
            "    each: dict, 2 keys",
            "      id: int",
            "      name: str",
            "  rows: list, 2 items of dict",
            "    [0]: dict, 1 key",
            "      a: NoneType",
            "  blob: bytes, 2.0 KiB",
        ]
        assert run_json("get", name, "labels", "-T") == {"type": "list, 2 items of str"}
        assert run("get", name, "--type", "--raw").status == 2
        writer.unlink()


def test_the_type_of_a_large_map() -> None:
    shape = shape_of({str(each): [each] if each % 2 else each for each in range(100)})
    assert list(shape_lines(shape))[-1] == "  ... 70 more keys"
    assert len(list(shape_lines(shape))) == 32
