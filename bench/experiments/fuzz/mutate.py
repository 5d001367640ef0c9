"""Mutations of bytes, independent of the file format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

INTEGERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WIDE = (0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 1 << 40)
# Names that must not escape their folder, reach a terminal unescaped, or start a program.
NAMES = (
    "../victim.txt", "../../victim.txt", "../../home/victim.txt", "/etc/passwd", "/proc/self/mem", "~/victim.txt",
    "a\0b", "..\\victim.txt", "C:\\victim.txt", "\\\\host\\share", "./a/../../victim.txt", "out/../../victim.txt",
    ".", "..", "", "/", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\nINJECTED", "a\rINJECTED", "\x9b31m",
    "\u202egpj.exe", "\u2028INJECTED", "=cmd|' /C calc'!A0", "-rf", "--help", "|touch executed", "$(touch executed)",
    "`touch executed`", "x" * 5000, "\ud800", "ä" * 200, "con", "nul.txt", "a/b/c", "model.int8.tflite/x",
    "file:///etc/passwd", "http://127.0.0.1:9/x",
)  # fmt: skip


def mutated(rng: Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Return `data` after one to four mutations; never the same bytes. donors: files to splice with."""
    result = data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        operation = rng.choice(OPERATIONS)
        result = splice(rng, result, rng.choice(donors)) if donors and rng.random() < 0.1 else operation(rng, result)
    return result if result != data else data + b"\0"


def flip_bits(rng: Random, data: bytes) -> bytes:
    if not data:
        return b"\xff"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.7 else data[rng.randrange(len(data) + 1) :]


def remove(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 256)) :]


def insert(rng: Random, data: bytes) -> bytes:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 16, 256, 5000))
    filling = rng.choice((rng.randbytes(length), b"\0" * length, b"A" * length, b"\xff" * length, b"\n" * length))
    return data[:start] + filling + data[start:]


def repeat(rng: Random, data: bytes) -> bytes:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 64, 1024))
    return data[:start] + data[start : start + length] * rng.choice((2, 3, 100)) + data[start + length :]


def place_integer(rng: Random, data: bytes) -> bytes:
    """Write an integer at the edge of its type to a random position, more often near the start (headers)."""
    if rng.random() < 0.7:
        value = struct.pack(rng.choice(("<", ">")) + "I", rng.choice(INTEGERS))[: rng.choice((1, 2, 4))]
    else:
        value = struct.pack(rng.choice(("<", ">")) + "Q", rng.choice(WIDE))
    near = min(len(data), 512)
    start = rng.randrange((near if rng.random() < 0.5 else len(data)) + 1)
    return data[:start] + value + data[start + len(value) :]


def shuffle(rng: Random, data: bytes) -> bytes:
    length = rng.choice((4, 16, 64, 1024))
    first, second = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    a, b = data[first : first + length], data[second : second + length]
    return (
        data
        if second < first + length
        else data[:first] + b + data[first + length : second] + a + data[second + length :]
    )


def splice(rng: Random, data: bytes, other: bytes) -> bytes:
    """Join the start of one file and the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


OPERATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    flip_bits, flip_bits, truncate, remove, insert, repeat, place_integer, place_integer, shuffle,
)  # fmt: skip
