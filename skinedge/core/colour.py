"""Convert RGB pixels with an embedded ICC profile to sRGB by one integer table per profile.

Profiles of the matrix/TRC kind (ICC.1:2022, F.3) are converted: Display P3, Adobe RGB, ProPhoto RGB, most cameras and
displays. The table is the same, bit for bit, in Python, the web page (page/colour.js) and the app (ColourProfile.kt):
everything is computed with integers, and with +, -, *, / and square roots of doubles, which IEEE 754 rounds correctly;
no library's power function is used. `python -m experiments.colour_vectors` writes the vectors that all three replay.

A byte b of channel c becomes linear light L[c][b] in 0..65535 by the profile's curve. With the matrix M from the
profile's colorants to those of sRGB, in units of 2^-16, the table holds T[o][c][b] = (M[o][c] L[c][b] + 2^17) >> 18. A
pixel's output o is E[T[o][0][r] + T[o][1][g] + T[o][2][b]], where E encodes light, 16384 for white, to the nearest byte
of sRGB, and clips. A profile that changes no colour of a grid by more than one level is sRGB: its pixels stay.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AS_STORED, SRGB = "as-stored", "srgb"  # rules of a run; those made before `colour` was recorded ignored profiles
RULES = (AS_STORED, SRGB)

# Rows of the inverse of sRGB's colorants (IEC 61966-2-1, adapted to D50), in units of 2^-24: XYZ to linear sRGB.
_FROM_XYZ = ((52584397, -27133356, -8233164), (-16421465, 32147857, 561266), (1207600, -3841813, 23584544))
_SRGB_GAMMA = 157286  # 2.4 in units of 2^-16, as in ICC profiles of sRGB
_DISPLAY_P3 = ((33759, 19135, 10296), (15807, 45367, 4363), (-69, 2745, 51385))  # rows X, Y, Z; columns R, G, B
_LARGEST = 4 << 16  # of a colorant, in units of 2^-16
_PARAMETERS = (1, 3, 4, 5, 7)  # of the parametric curves of type 0 to 4
# ITU-T H.273. Transfer: BT.709 and its equals, which displays show as sRGB, sRGB, unspecified.
_SRGB_PRIMARIES, _P3_PRIMARIES, _SRGB_TRANSFER = (1, 2), 12, (1, 2, 6, 13, 14, 15)
_LUT_TAGS = tuple(f"{kind}2B{intent}".encode() for kind in "AD" for intent in range(4))
_BIAS = 24576  # makes every sum of a pixel positive, so that three of them fit into one integer of 64 bits
_FIRST = np.array([[_BIAS * (1 + (1 << 16) + (1 << 32))], [0], [0]], np.int64)  # the bias, once for each sum
_CHUNK = 1 << 14  # pixels converted at a time: fits the cache

Table = NDArray[np.int64]  # (3 outputs, 3 channels, 256)


@dataclass(frozen=True)
class Profile:
    """An ICC profile. name: its description; problem: why it is not converted, None if it is understood; table: of the
    conversion, None for sRGB and with a problem.
    """

    name: str
    problem: str | None = None
    table: Table | None = None


class _UnsupportedError(ValueError):
    """A profile that is not converted; the message completes 'a profile that is ...'."""


@functools.lru_cache(maxsize=64)
def read_profile(data: bytes) -> Profile:
    """Read an ICC profile; any bytes give a result."""
    try:
        name = _name(data)
    except (struct.error, UnicodeDecodeError, _UnsupportedError):
        name = "without a name"
    try:
        return Profile(name, table=_unless_srgb(_table(_colorants(data), _curves(data))))
    except _UnsupportedError as error:
        return Profile(name, str(error))
    except struct.error:
        return Profile(name, "damaged")


@functools.lru_cache(maxsize=1)
def display_p3() -> Profile:
    """Return the profile of Display P3, which HEIC files may name by a number."""
    curve = [_round16(_srgb_linear(byte / 255)) for byte in range(256)]
    return Profile("Display P3", table=_table(_DISPLAY_P3, [curve] * 3))


def profile_of(info: Mapping[Any, Any]) -> Profile | None:
    """Return the profile of an image that Pillow opened, None without one. info: the image's `info`."""
    if "icc_profile" in info:
        icc = info["icc_profile"] or b""  # None: damaged, or a part is missing
        return None if icc[16:20] == b"Lab " else read_profile(icc)  # Pillow converts Lab itself
    nclx = info.get("nclx_profile")  # of HEIC: numbers of ITU-T H.273
    if nclx is None:
        return None
    primaries, transfer = nclx["color_primaries"], nclx["transfer_characteristics"]
    if transfer in _SRGB_TRANSFER and primaries in (*_SRGB_PRIMARIES, _P3_PRIMARIES):
        return display_p3() if primaries == _P3_PRIMARIES else None
    return Profile(f"H.273 with primaries {primaries} and transfer {transfer}", "other than Display P3")


def to_srgb(pixels: NDArray[np.uint8], table: Table) -> None:
    """Convert pixels in place. pixels: (H, W, 3) uint8, contiguous."""
    red, green, blue = ((table[0] + (table[1] << 16) + (table[2] << 32)) + _FIRST).astype("<i8")
    flat, encode = pixels.reshape(-1, 3), _encode()
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK]
        sums = red.take(part[:, 0], mode="clip")  # faster than indexing; no index is out of range
        sums += green.take(part[:, 1], mode="clip")
        sums += blue.take(part[:, 2], mode="clip")
        for output, fields in enumerate(sums.view("<u2").reshape(-1, 4).T[:3]):
            part[:, output] = encode.take(fields, mode="clip")


def _name(data: bytes) -> str:
    """Return the profile's description: text in version 2, the first translation in version 4."""
    tag = _tag(data, b"desc")
    if tag[:4] == b"mluc":
        size, offset = struct.unpack_from(">II", tag, 20)
        text = tag[offset : offset + size].decode("utf-16-be")
    else:
        (size,) = struct.unpack_from(">I", tag, 8)
        text = tag[12 : 12 + size].decode("latin-1")
    name = " ".join(text.replace("\0", " ").split())[:60]
    return f"'{name}'" if name else "without a name"


def _tag(data: bytes, name: bytes) -> bytes:
    """Return the content of the first tag of this name. Raises: _UnsupportedError without a complete one."""
    for entry in range(min(struct.unpack_from(">I", data, 128)[0], 1000)):
        signature, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * entry)
        if signature == name:
            if offset + size > len(data):
                break
            return data[offset : offset + size]
    raise _UnsupportedError("damaged")


def _has_tag(data: bytes, name: bytes) -> bool:
    try:
        return bool(_tag(data, name))
    except _UnsupportedError:
        return False


def _colorants(data: bytes) -> tuple[tuple[int, ...], ...]:
    """Return rows X, Y, Z of the colorants R, G, B in units of 2^-16. Raises: _UnsupportedError, struct.error."""
    if data[36:40] != b"acsp" or struct.unpack_from(">I", data)[0] > len(data):
        raise _UnsupportedError("damaged")
    if data[16:20] != b"RGB ":
        kind = {b"GRAY": "grey", b"CMYK": "CMYK"}.get(data[16:20], "other than RGB")
        raise _UnsupportedError(f"for {kind} images")
    if data[20:24] != b"XYZ " or any(_has_tag(data, name) for name in _LUT_TAGS):
        raise _UnsupportedError("made of lookup tables")
    columns = []
    for name in (b"rXYZ", b"gXYZ", b"bXYZ"):
        tag = _tag(data, name)
        columns.append(struct.unpack_from(">3i", tag, 8))
        if tag[:4] != b"XYZ " or max(map(abs, columns[-1])) >= _LARGEST:
            raise _UnsupportedError("damaged")
    return tuple(zip(*columns, strict=True))


def _curves(data: bytes) -> list[list[int]]:
    """Return the linear light, 0..65535, of each byte of R, G and B."""
    return [_curve(_tag(data, name)) for name in (b"rTRC", b"gTRC", b"bTRC")]


def _curve(tag: bytes) -> list[int]:
    kind, number = struct.unpack_from(">4s4xH", tag)
    if kind == b"para" and number < len(_PARAMETERS):
        return _parametric(number, struct.unpack_from(f">{_PARAMETERS[number]}i", tag, 12))
    if kind != b"curv":
        raise _UnsupportedError("damaged")
    (count,) = struct.unpack_from(">I", tag, 8)
    if 12 + 2 * count > len(tag):
        raise _UnsupportedError("damaged")
    values = struct.unpack_from(f">{count}H", tag, 12)
    if count == 0:
        return [257 * byte for byte in range(256)]
    if count == 1:
        return _parametric(0, [values[0] << 8])
    places = [divmod(byte * (count - 1), 255) for byte in range(256)]
    following = (*values[1:], values[-1])
    return [(values[at] * (255 - rest) + following[at] * rest + 127) // 255 for at, rest in places]


def _parametric(kind: int, parameters: Sequence[int]) -> list[int]:
    """Evaluate a parametric curve (ICC.1:2022, table 68). parameters: in units of 2^-16."""
    gamma = parameters[0]
    if not 0 < gamma <= 16 << 16:
        raise _UnsupportedError("damaged")
    a, b, c, d, e, f = ([value / 65536 for value in parameters[1:]] + 6 * [0.0])[:6]
    a = a if kind else 1.0
    values = []
    for byte in range(256):
        x = byte / 255
        base = a * x + b
        above = _power(max(base, 0.0), gamma)
        if kind < 3:
            value = (above if base >= 0 else 0.0) + (c if kind == 2 else 0.0)
        else:
            value = above + e if x >= d else c * x + f
        values.append(_round16(value))
    return values


def _power(base: float, exponent: int) -> float:
    """Return base ** (exponent / 2^16) by multiplications and square roots, the same on every machine."""
    result, root = 1.0, base
    for _ in range(exponent >> 16):
        result *= base
    for bit in range(15, -1, -1):
        root = math.sqrt(root)
        if exponent >> bit & 1:
            result *= root
    return result


def _round16(value: float) -> int:
    return math.floor(min(max(value, 0.0), 1.0) * 65535 + 0.5)


def _table(colorants: Sequence[Sequence[int]], curves: Sequence[Sequence[int]]) -> Table:
    matrix = [
        [(sum(row[k] * colorants[k][c] for k in range(3)) + (1 << 23)) >> 24 for c in range(3)] for row in _FROM_XYZ
    ]
    table = np.array(
        [[[(m * light + (1 << 17)) >> 18 for light in curves[c]] for c, m in enumerate(row)] for row in matrix],
        np.int64,
    )
    if table.min(axis=2).sum(axis=1).min() < -_BIAS or table.max(axis=2).sum(axis=1).max() >= 65536 - _BIAS:
        raise _UnsupportedError("outside the range of the conversion")
    return table


def _unless_srgb(table: Table) -> Table | None:
    """Return the table; None where no colour of a 9 x 9 x 9 grid changes by more than one level."""
    levels = np.array([255 * step // 8 for step in range(9)], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3)
    converted = grid.copy()
    to_srgb(converted, table)
    return table if np.abs(converted.astype(int) - grid).max() > 1 else None


def _srgb_linear(x: float) -> float:
    return x / 12.92 if x <= 0.04045 else _power((x + 0.055) / 1.055, _SRGB_GAMMA)


@functools.lru_cache(maxsize=1)
def _encode() -> NDArray[np.uint8]:
    """Return the byte of each sum of a pixel, shifted by _BIAS: (65536,) uint8."""
    # Light becomes the byte b if it lies between that of b - 1/2 and of b + 1/2.
    bounds = [math.ceil(16383.75 * _srgb_linear((2 * byte - 1) / 510)) for byte in range(1, 256)]
    return np.searchsorted(bounds, np.arange(-_BIAS, 65536 - _BIAS), side="right").astype(np.uint8)
