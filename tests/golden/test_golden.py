"""The golden files: what is written now, and what the readers find in them.

After a change of the format: `python tools/golden --write`, which says what has changed.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from page_reader import read as read_by_page

import shmsync
from golden.cases import CASES, DAMAGES
from golden.files import FOLDER, differences, installed, made, plain, stored
from shmsync import Reader, unarchive

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the files are in the other byte order")


@pytest.mark.parametrize("title", CASES)
def test_the_value(title: str, name: str) -> None:
    with installed(title, name) as facts, Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
        assert same(facts["value"], plain(unarchive(snapshot.value)))


def same(expected: Any, found: Any) -> bool:
    """Return whether two values are equal; the entries of a map may have another order."""
    if isinstance(expected, dict) and set(expected) == {"pairs"}:
        return sorted(map(repr, expected["pairs"])) == sorted(map(repr, found["pairs"]))
    if isinstance(expected, dict):
        return expected.keys() == found.keys() and all(same(expected[key], found[key]) for key in expected)
    return bool(expected == found)


@pytest.mark.parametrize("title", DAMAGES)
def test_the_error(title: str, name: str) -> None:
    with installed(title, name) as facts, Reader(name) as reader:
        with pytest.raises(getattr(shmsync, facts["error"])), reader.read(check_bytes=facts["check_bytes"]) as snapshot:
            assert snapshot.value
        if facts["check_bytes"]:
            with reader.read() as snapshot:
                assert snapshot.value


@pytest.mark.parametrize("title", CASES)
def test_the_reader_of_the_page(title: str, name: str) -> None:
    with installed(title, name) as facts:
        assert matches(facts["value"], read_by_page(name))


def matches(expected: Any, found: Any) -> bool:  # noqa: PLR0911 - one for each kind of value
    """Return whether the reader of the page has found a value: it has its own form for what is not plain."""
    if isinstance(expected, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    if isinstance(expected, int) and isinstance(found, tuple):  # an integer of more than 64 bits
        return int.from_bytes(found[1], "big", signed=True) == expected
    if not isinstance(expected, dict):
        return bool(expected == found)
    ((kind, value),) = expected.items()
    if kind == "map":
        return value.keys() == found.keys() and all(matches(value[key], found[key]) for key in value)
    if kind == "pairs":
        items = {repr(plain(key)): item for key, item in found.items()}
        return len(value) == len(items) and all(matches(item, items[repr(key)]) for key, item in value)
    if kind == "array":
        dtype, shape, items = value
        *found_shape, elements = found
        return bool(shape == found_shape and (dtype[0] not in "bifu" or flat(items) == elements))
    if kind == "bytes":
        return bool(bytes.fromhex(value) == found)
    return repr(float(value)) == repr(found) if kind == "float" else isinstance(found, tuple)


def flat(items: Any) -> list[Any]:
    """Return the items of nested lists."""
    return [each for item in items for each in flat(item)] if isinstance(items, list) else [items]


def test_the_files_are_those_that_are_written_now(name: str) -> None:
    now = made(name)
    assert {path.name for path in FOLDER.iterdir() if (path / "case.json").exists()} == set(now)
    changed = {title: differences(stored(title)[1], segments) for title, (_, segments) in now.items()}
    assert not {title: texts for title, texts in changed.items() if texts}
    for title, (facts, _) in now.items():
        assert stored(title)[0] == facts
