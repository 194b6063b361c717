"""What the C header finds in the golden files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from compiled import NEEDS_COMPILER, SHMCAT, failed, printed, program
from shown import shown

from golden.cases import CASES, DAMAGES
from golden.files import installed
from shmsync import ArrayMap

pytestmark = [
    NEEDS_COMPILER,
    pytest.mark.skipif(sys.byteorder != "little", reason="the files are in the other byte order"),
]

OTHER = {"msgpack-extended"}
"""Values that shmcat prints as their kind and fields: see `test_raw_and_extensions`."""
ERRORS = {
    "LayoutMismatchError": "another layout version or byte order, or a file of another program",
    "StateNotFoundError": "no process has published under this name",
    "UninitializedStateError": "the name exists, but no value is published yet",
}
OTHERS = ("a segment or its payload is damaged", "the codec is not supported here", "no process has published")


@pytest.mark.parametrize("title", CASES)
def test_the_value(title: str, name: str) -> None:
    shmcat, case = program(SHMCAT), CASES[title]
    with installed(title, name):
        found = printed(shmcat, name)
    value = case.values[-1] if case.expected is None else case.expected
    if isinstance(value, ArrayMap):
        rows = value.values.tolist() if value.values.ndim == 1 else value.values
        value = dict(zip(np.asarray(value.keys).tolist(), rows, strict=True))
    if title.startswith("array-map-capacity"):  # in the order of the entries
        assert sorted(found) == sorted(shown(value) + "\n")
    elif title not in OTHER:
        assert found == shown(value) + "\n"


@pytest.mark.parametrize("title", DAMAGES)
def test_the_error(title: str, name: str) -> None:
    shmcat = program(SHMCAT)
    with installed(title, name) as facts:
        (error,) = failed(shmcat, name)
    expected = ERRORS.get(facts["error"])
    assert error.startswith(f"shmcat: {name}: ")
    assert expected in error if expected else any(text in error for text in OTHERS), error
