"""XXH3-64 of many short keys at once, by array operations: what `xxhash.xxh3_64_intdigest` returns for each of them.

The algorithm depends on the length of the input: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. Names
are those of the specification. Keys of more than 128 bytes are left to xxhash.
"""

from __future__ import annotations

from typing import Any

from xxhash import xxh3_64_intdigest

_BLOCK = 8192  # keys; the arrays of one block fit the cache

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
)
_MASK = (1 << 64) - 1
_LOW = (1 << 32) - 1
_PRIME64_1 = 0x9E3779B185EBCA87
_PRIME64_2 = 0xC2B2AE3D27D4EB4F
_PRIME64_3 = 0x165667B19E3779F9
_PRIME_MX1 = 0x165667919E3779F9
_PRIME_MX2 = 0x9FB21C651E98DF25


def hashes(numpy: Any, data: Any, offsets: Any, seed: int) -> Any:
    """Return the hash of each key as an array of uint64.

    Args:
        numpy: the module.
        data: the bytes of all keys, as an array of uint8.
        offsets: key i is data[offsets[i] : offsets[i + 1]]; an array of int64.
        seed: the seed, an unsigned integer of 64 bits.
    """
    # Every key is read as words from any address, up to 8 bytes long: so the last words may begin before the last key.
    keys = _Keys(numpy, numpy.concatenate((data, numpy.zeros(8, numpy.uint8))), seed)
    count = len(offsets) - 1
    result = numpy.empty(count, numpy.uint64)
    for start in range(0, count, _BLOCK):
        limits = offsets[start : start + _BLOCK + 1]
        at, lengths = limits[:-1], numpy.diff(limits)
        target = result[start : start + _BLOCK]
        classes = numpy.searchsorted(_LONGEST, lengths)
        for number in numpy.flatnonzero(numpy.bincount(classes)).tolist():
            part = slice(None) if (classes == number).all() else numpy.flatnonzero(classes == number)
            if number < len(_FUNCTIONS):
                target[part] = _FUNCTIONS[number](keys, at[part], lengths[part])
                continue
            for key in numpy.arange(len(at))[part].tolist():
                target[key] = xxh3_64_intdigest(data[at[key] : at[key] + lengths[key]], seed)
    return result


class _Keys:
    """The bytes of all keys, and the seed.

    Attributes:
        u8: the bytes.
        u32: the 4-byte words that begin at each byte.
        u64: the 8-byte words that begin at each byte.
    """

    def __init__(self, numpy: Any, data: Any, seed: int) -> None:
        self.numpy = numpy
        self.u8 = data
        self.u32 = numpy.ndarray((len(data) - 3,), "<u4", data, strides=(1,))
        self.u64 = numpy.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        self.seed = seed

    def bytes_at(self, places: Any) -> Any:
        return self.u8[places].astype(self.numpy.uint64)

    def u32_at(self, places: Any) -> Any:
        return self.u32[places].astype(self.numpy.uint64)

    def u64_at(self, places: Any) -> Any:
        return self.u64[places].astype(self.numpy.uint64)  # in native byte order


def _secret(at: int) -> int:
    return int.from_bytes(_SECRET[at : at + 8], "little")


def _len_0(keys: _Keys, at: Any, _: Any) -> Any:
    acc = keys.numpy.full(len(at), keys.seed ^ _secret(56) ^ _secret(64), keys.numpy.uint64)
    return _xxh64_avalanche(acc)


def _len_1_to_3(keys: _Keys, at: Any, length: Any) -> Any:
    combined = keys.bytes_at(at) << 16 | keys.bytes_at(at + (length >> 1)) << 24 | keys.bytes_at(at + length - 1)
    combined |= length.astype(keys.numpy.uint64) << 8
    bitflip = ((_secret(0) & _LOW) ^ (_secret(0) >> 32)) + keys.seed & _MASK
    return _xxh64_avalanche(combined ^ bitflip)


def _len_4_to_8(keys: _Keys, at: Any, length: Any) -> Any:
    seed = keys.seed ^ int.from_bytes((keys.seed & _LOW).to_bytes(4, "little"), "big") << 32
    bitflip = (_secret(8) ^ _secret(16)) - seed & _MASK
    h = keys.u32_at(at + length - 4) + (keys.u32_at(at) << 32) ^ bitflip
    h ^= _rotl(h, 49) ^ _rotl(h, 24)
    h *= _PRIME_MX2
    h ^= (h >> 35) + length.astype(keys.numpy.uint64)
    h *= _PRIME_MX2
    h ^= h >> 28
    return h


def _len_9_to_16(keys: _Keys, at: Any, length: Any) -> Any:
    low = keys.u64_at(at) ^ ((_secret(24) ^ _secret(32)) + keys.seed & _MASK)
    high = keys.u64_at(at + length - 8) ^ ((_secret(40) ^ _secret(48)) - keys.seed & _MASK)
    acc = _mul128_fold64(low, high)
    acc += high
    acc += low.byteswap()
    acc += length.astype(keys.numpy.uint64)
    return _avalanche(acc)


def _len_17_to_128(keys: _Keys, at: Any, length: Any) -> Any:
    """Hash keys that are as long as the same number of pairs of 16 bytes."""
    acc = length.astype(keys.numpy.uint64) * _PRIME64_1
    for pair in range((int(length[0]) + 31) // 32):
        acc += _mix16(keys, at + 16 * pair, 32 * pair)
        acc += _mix16(keys, at + length - 16 * (pair + 1), 32 * pair + 16)
    return _avalanche(acc)


def _mix16(keys: _Keys, at: Any, secret: int) -> Any:
    low = keys.u64_at(at) ^ (_secret(secret) + keys.seed & _MASK)
    return _mul128_fold64(low, keys.u64_at(at + 8) ^ (_secret(secret + 8) - keys.seed & _MASK))


_LONGEST = (0, 3, 8, 16, 32, 64, 96, 128)
_FUNCTIONS: tuple[Any, ...] = (_len_0, _len_1_to_3, _len_4_to_8, _len_9_to_16, *(_len_17_to_128,) * 4)
"""For keys of up to `_LONGEST` bytes, and more than the number before it."""


def _mul128_fold64(a: Any, b: Any) -> Any:
    """Return the exclusive or of both halves of a product of 128 bits, made of four products of 32-bit halves."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> 32, b & _LOW, b >> 32
    carry = a_low * b_low
    carry >>= 32
    cross = a_high * b_low
    cross += carry
    other = a_low * b_high
    other += cross & _LOW
    a_high *= b_high
    a_high += cross >> 32
    a_high += other >> 32
    a_high ^= a * b
    return a_high


def _rotl(h: Any, bits: int) -> Any:
    return h << bits | h >> 64 - bits


def _avalanche(h: Any) -> Any:
    h ^= h >> 37
    h *= _PRIME_MX1
    h ^= h >> 32
    return h


def _xxh64_avalanche(h: Any) -> Any:
    h ^= h >> 33
    h *= _PRIME64_2
    h ^= h >> 29
    h *= _PRIME64_3
    h ^= h >> 32
    return h
