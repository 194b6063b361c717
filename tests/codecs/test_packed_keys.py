"""String keys of large maps: packed and hashed by array operations, with the archive that a loop over them gives."""

from __future__ import annotations

import random
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from shmsync import ArrayMap, EntityWriteError
from shmsync.codecs import _numpy, archive
from shmsync.codecs.archive import _hash_index, _packed_keys, _xxh3
from shmsync.codecs.archive._format import BYTES, STR

SEEDS = st.sampled_from([0, 1, 2, 751, 1_500_007, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LETTERS = "ab\u00e9\u20ac\U0001f600\0"  # of 1 to 4 bytes
STRING = getattr(np.dtypes, "StringDType", None)  # NumPy 2


def some_texts(count: int, letters: str = LETTERS, longest: int = 40) -> list[str]:
    rng = random.Random(count)
    return ["".join(rng.choices(letters, k=rng.randrange(longest))) for _ in range(count)]


def array_of(texts: list[str], kind: str) -> Any:
    if kind == "T":
        return np.array(texts, STRING())  # type: ignore[misc, arg-type]
    if kind == "S":
        return np.array([text.encode() for text in texts])
    return np.array(texts, ">U" if kind == "swapped" else "U")


# ------------------------------------------------------------------------------------------------------------- hashing


def hashed(keys: list[bytes], seed: int) -> list[int]:
    offsets = np.cumsum([0, *map(len, keys)])
    found: list[int] = _xxh3.hashes(np, np.frombuffer(b"".join(keys), np.uint8), offsets, seed).tolist()
    return found


@pytest.mark.parametrize("seed", [0, 1_500_007, 2**32 + 5, 2**64 - 1])
def test_hashes_of_every_length(seed: int) -> None:
    keys = [random.Random(length).randbytes(length) for length in [*range(260), 1000, 5000]]
    random.Random(seed).shuffle(keys)
    assert hashed(keys, seed) == [xxh3_64_intdigest(key, seed) for key in keys]


@given(st.lists(st.binary(max_size=140), min_size=1, max_size=60), SEEDS)
def test_hashes_are_those_of_xxhash(keys: list[bytes], seed: int) -> None:
    assert hashed(keys, seed) == [xxh3_64_intdigest(key, seed) for key in keys]


@given(st.binary(min_size=1, max_size=140), SEEDS)
def test_hash_of_one_key(key: bytes, seed: int) -> None:
    """No key after it: its words must not be read from beyond the end."""
    assert hashed([key], seed) == [xxh3_64_intdigest(key, seed)]


def test_hashes_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_xxh3, "_BLOCK", 7)
    keys = [text.encode() for text in some_texts(100)]
    assert hashed(keys, 5) == [xxh3_64_intdigest(key, 5) for key in keys]
    assert hashed([], 5) == []


# ------------------------------------------------------------------------------------------------------------- packing


@pytest.fixture
def from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack few keys, too, in several blocks."""
    monkeypatch.setattr(_packed_keys, "PACK_FROM", 1)
    monkeypatch.setattr(_hash_index, "PACK_FROM", 1)
    monkeypatch.setattr(_packed_keys, "_BLOCK", 16)


KINDS = ["list", "list of bytes", "U", "swapped", "S", *(["T"] if STRING else [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("letters", ["ab", LETTERS, "ab\0", "\u00e9", ""])
@pytest.mark.usefixtures("from_one")
def test_content_and_offsets(kind: str, letters: str) -> None:
    texts = some_texts(100, letters) if letters else [""] * 100
    keys: Any = texts if kind == "list" else [text.encode() for text in texts]
    if kind in {"U", "S", "swapped", "T"}:
        keys = array_of(texts, kind)
    found = _packed_keys.packed(keys)
    assert found is not None
    expected = [
        key if isinstance(key, bytes) else key.encode() for key in (keys if isinstance(keys, list) else keys.tolist())
    ]
    limits = found.offsets.tolist()
    assert found.kind == (BYTES if kind in {"S", "list of bytes"} else STR)
    assert [bytes(found.data[start:end]) for start, end in pairwise(limits)] == expected
    assert len(found) == 100
    for seed in (7, 8, 8):
        assert found.hashes(seed).tolist() == [xxh3_64_intdigest(key, seed) for key in expected]
    assert found.are_distinct(7) == (len(set(expected)) == 100)


@given(st.lists(TEXTS, min_size=1, max_size=50))
def test_any_texts(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_packed_keys, "PACK_FROM", 1)
        for kind in ("U", "T") if STRING else ("U",):
            keys = array_of(texts, kind)
            found = _packed_keys.packed(keys)
            assert found is not None
            encoded = [text.encode() for text in keys.tolist()]
            assert bytes(found.data) == b"".join(encoded)
            assert np.diff(found.offsets).tolist() == list(map(len, encoded))


@pytest.mark.parametrize(
    "keys",
    [[], ["a", b"a"], [b"a", "a"], [1, "a"], ["a", 1], [("a",)], [type("Own", (str,), {})("a")], ["a", "\ud800"]],
)
@pytest.mark.usefixtures("from_one")
def test_keys_that_are_not_packed(keys: list[Any]) -> None:
    assert _packed_keys.packed(keys) is None


@pytest.mark.skipif(STRING is None, reason="NumPy 2 has it")
@pytest.mark.usefixtures("from_one")
def test_one_long_string_does_not_widen_all(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    codes = _packed_keys._codes

    def noted(numpy: Any, strings: Any, dtype: Any) -> Any:
        widths.append(strings.itemsize)
        return codes(numpy, strings, dtype)

    monkeypatch.setattr(_packed_keys, "_codes", noted)
    texts = ["ab\0", "x" * 5000, *some_texts(40)]
    found = _packed_keys.packed(array_of(texts, "T"))
    assert found is not None
    assert bytes(found.data) == "".join(texts).encode()
    assert len(widths) == 2  # of three blocks
    assert max(widths) <= 4 * 41


def test_few_keys_and_no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number}" for number in range(_packed_keys.PACK_FROM)]
    assert _packed_keys.packed(texts) is not None
    assert _packed_keys.packed(texts[1:]) is None
    monkeypatch.setattr(_numpy, "numpy_if_installed", lambda: None)
    assert _packed_keys.packed(texts) is None


# ------------------------------------------------------------------------------------------------------------ archives


def encoded(keys: Any, monkeypatch: pytest.MonkeyPatch, pack_from: int) -> bytes:
    with monkeypatch.context() as patch:
        patch.setattr(_packed_keys, "PACK_FROM", pack_from)
        return bytes(archive.encode(ArrayMap(keys, np.arange(2.0 * len(keys)).reshape(-1, 2))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("letters", ["0123456789", LETTERS])
@pytest.mark.parametrize("repeats", [1, 2])
def test_the_archive_is_the_same(kind: str, letters: str, repeats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a loop over the keys writes it; also if keys repeat, or all have the same length."""
    texts = sorted(set(some_texts(900, letters))) * repeats
    if letters != LETTERS:
        texts = [f"{number:06}" for number in range(700)] * repeats
    keys: Any = texts if kind == "list" else [text.encode() for text in texts]
    if kind in {"U", "S", "swapped", "T"}:
        keys = array_of(texts, kind)
    listed = keys if isinstance(keys, list) else keys.tolist()
    found = encoded(keys, monkeypatch, _packed_keys.PACK_FROM)
    assert found == encoded(listed, monkeypatch, sys.maxsize)
    value = archive.decode(memoryview(found).toreadonly())
    last = dict(zip(listed, range(len(listed)), strict=True))
    assert list(value) == list(last)
    assert all(value[key][0] == 2 * row for key, row in last.items())
    archive.check(memoryview(found).toreadonly())


def test_a_dict_with_many_text_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {text: number for number, text in enumerate(some_texts(2000))}
    one = bytes(archive.encode(value))
    monkeypatch.setattr(_packed_keys, "PACK_FROM", sys.maxsize)
    assert bytes(archive.encode(value)) == one
    assert archive.decode(memoryview(one)) == value


def test_a_few_keys_in_an_array() -> None:
    for kind in KINDS[2:]:
        keys = array_of(["a", "b\u00e9", "a"], kind)
        payload = memoryview(bytes(archive.encode(ArrayMap(keys, np.arange(3)))))
        assert archive.decode(payload) == dict(zip(keys.tolist(), range(3), strict=True))


def test_a_surrogate_is_named() -> None:
    keys = [f"key {number}" for number in range(1000)]
    keys[700] = "lone \ud800"
    for given_keys in (keys, np.array(keys)):
        with pytest.raises(EntityWriteError, match=r"lone .ud800.* is not valid Unicode"):
            archive.encode(ArrayMap(given_keys, np.zeros(1000)))


@pytest.mark.skipif(STRING is None, reason="NumPy 2 has it")
def test_strings_with_missing_values() -> None:
    keys = np.array(["a", None], STRING(na_object=None))  # type: ignore[misc]
    with pytest.raises(EntityWriteError, match="keys of an ArrayMap must be"):
        ArrayMap(keys, np.zeros(2))


def test_masked_keys_are_refused() -> None:
    with pytest.raises(EntityWriteError, match="mask would be lost"):
        ArrayMap(np.ma.array(["a", "b"], mask=[True, False]), np.zeros(2))


def test_equal_hashes_of_other_keys_are_no_repeated_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the keys themselves are compared."""
    monkeypatch.setattr(_xxh3, "hashes", lambda numpy, _data, offsets, _seed: numpy.zeros(len(offsets) - 1, "u8"))
    keys = [f"{number}" for number in range(600)]
    payload = memoryview(bytes(archive.encode(ArrayMap(keys, np.arange(600)))))
    assert list(archive.decode(payload)) == keys


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_chains_are_those_of_a_loop(prime: int, seed: int) -> None:
    for dtype in ("i8", "u8"):
        buckets = np.random.default_rng(seed).integers(0, prime, 1 + seed % 200).astype(dtype)
        expected, longest = _hash_index._chain(buckets.tolist(), prime, None)
        found, found_longest = _hash_index._chain(buckets, prime, np)
        assert (list(found.heads), list(found.links)) == (list(expected.heads), list(expected.links))
        assert found_longest == longest
