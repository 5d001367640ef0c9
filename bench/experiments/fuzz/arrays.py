"""Archives of arrays (.npz): golden vectors, reference logits, MedMNIST."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import cache
from random import Random
from typing import Any

import numpy as np

from experiments.fuzz.case import Base, Case
from experiments.fuzz.documents import PREDICT, REPORT, SHIP, VERIFY, refitted
from experiments.fuzz.fixture import RUN
from experiments.fuzz.mutate import NAMES, mutated

TYPES = ("<f8", "<f4", "<f2", ">f4", "<i8", "<u1", "|b1", "<U9", "|S4", "<c16", "|O", "<M8[s]", "[('a','<f4')]", "|V8")
SHAPES = ((), (0,), (1,), (3,), (2**31,), (2**62, 4), (-1, 3), (64, 3, 32, 32), (10**12,), (1,) * 64)


def case(rng: Random, base: Base) -> Case:
    """Mutate an archive of a run, with a matching hash, or of labelled images."""
    if rng.random() < 0.75:
        name = "data/med/tinted.npz"
        check = rng.random() < 0.05
        return Case("npz", ("data", "check" if check else "info", "data/med"), {name: archive(rng, base.read(name))})
    name = f"{RUN}/{rng.choice(('golden.npz', 'reference.npz'))}"
    argv = rng.choice((SHIP, PREDICT, REPORT, VERIFY[:2], VERIFY)) if rng.random() < 0.25 else SHIP
    return Case("npz", argv, refitted(base, name, archive(rng, base.read(name))), writes=("out", RUN))


def archive(rng: Random, data: bytes) -> bytes:
    """Mutate the bytes, arrays, headers or sizes of an archive."""
    if rng.random() < 0.3:
        return mutated(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(members))
        members[name] = _member(rng, members[name])
        if rng.random() < 0.15:
            members[rng.choice((*NAMES[:8], "other.npy", "x"))] = members.pop(name)
    if rng.random() < 0.05:
        return _bomb(rng, rng.choice(list(members)), members)
    return zipped(rng, members)


def zipped(rng: Random, members: dict[str, bytes]) -> bytes:
    """Return a zip file of the members, with a random compression."""
    stream = io.BytesIO()
    with zipfile.ZipFile(
        stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    ) as target:
        for name, content in members.items():
            target.writestr(name.replace("\ud800", "?"), content)
    return stream.getvalue()


def _member(rng: Random, member: bytes) -> bytes:
    operation = rng.randrange(6)
    if operation == 0:
        return mutated(rng, member)
    if operation == 1:
        return b""
    try:
        array = np.load(io.BytesIO(member), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return mutated(rng, member)
    if operation == 2:
        return _header(rng, array, member)
    stream = io.BytesIO()
    try:
        np.save(stream, _array(rng, array), allow_pickle=True)
    except (ValueError, TypeError):  # text is not a number
        return mutated(rng, member)
    return stream.getvalue()


def _array(rng: Random, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = np.atleast_1d(array)
    with np.errstate(all="ignore"):
        changes: tuple[Any, ...] = (
            array.astype(rng.choice(("f8", "f4", "f2", "i8", "u1", "?", "c16", "U3", "O"))),
            array[:0], array[:1], array[:-1], array.reshape(-1), array[None], np.asfortranarray(array.T), array[::-1],
            np.full(array.shape, rng.choice((np.nan, np.inf, -1.0, 255.0, 1e30))), np.array(rng.choice((None, 3,
            "text"))),
            np.concatenate([array, array]) if array.ndim else array,
        )  # fmt: skip
    return np.asarray(rng.choice(changes))


def _header(rng: Random, array: np.ndarray[Any, Any], member: bytes) -> bytes:
    """Replace an array's header by a false or malformed one."""
    kind, shape = rng.choice((array.dtype.str, rng.choice(TYPES))), rng.choice((array.shape, rng.choice(SHAPES)))
    kind = kind if kind.startswith("[") else repr(kind)
    text = f"{{'descr': {kind}, 'fortran_order': {rng.choice(('True', 'False', '1', 'None'))}, 'shape': {shape}, }}"
    if rng.random() < 0.2:
        text = rng.choice(
            ("{" * 5000, "(" * 100_000, "None", "{'shape': 1}", text + " " * 70_000, "__import__('os')", "'" * 9)
        )
    body, version = text.encode() + b"\n", rng.choice((1, 1, 2, 3, 9))
    length = struct.pack("<H", len(body) % 65536) if version == 1 else struct.pack("<I", rng.choice((len(body), 2**31)))
    return b"\x93NUMPY" + bytes((version, 0)) + length + body + member[128 : 128 + rng.choice((0, 64, 10**6))]


@cache
def _huge(gigabytes: int) -> tuple[bytes, int]:
    """Return (deflated bytes, checksum) of this many gigabytes of zeros, without a header."""
    packer, block, checksum, parts = zlib.compressobj(9, zlib.DEFLATED, -15), b"\0" * (1 << 24), 0, []
    for _ in range(gigabytes << 6):
        parts.append(packer.compress(block))
        checksum = zlib.crc32(block, checksum)
    return b"".join([*parts, packer.flush()]), checksum


def _bomb(rng: Random, name: str, members: dict[str, bytes]) -> bytes:
    """Return an archive with an array of gigabytes in a few megabytes, or a header that claims so."""
    count = 3 << 30
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count // 3072}, 32, 32, 3), }}".ljust(117) + "\n"
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    if rng.random() < 0.5:
        return zipped(rng, {**members, name: member + bytes(1000)})
    packed, _ = _huge(1)
    size, start = len(member) + (1 << 30), zlib.compressobj(0, zlib.DEFLATED, -15)
    body = start.compress(member) + start.flush(zlib.Z_FULL_FLUSH) + packed
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(body), size, len(name), 0)
    central = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 33, 0, len(body), size, len(name), 0, 0, 0, 0, 0, 0
    )
    head, index = local + name.encode() + body, central + name.encode()
    return head + index + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(index), len(head), 0)
