"""Colour profiles (ICC.1:2022, version 2 files), written here because Pillow makes no profile but sRGB's."""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Colorants adapted to D50, as in Apple's and Adobe's own profiles: the columns are red, green and blue.
DISPLAY_P3 = ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407))
ADOBE_RGB = ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457))
SRGB_CURVE = [(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for v in (i / 1023 for i in range(1024))]
D50 = (0.9642, 1.0, 0.8249)


def matrix_profile(colorants: Sequence[Sequence[float]], curve: bytes) -> bytes:
    """Return a profile of an RGB space with three equal curves (`table` or `gamma`)."""
    columns = zip(*colorants, strict=True)
    tags = {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return profile(b"RGB ", {**tags, b"wtpt": xyz(D50), **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})


def table(values: Sequence[float]) -> bytes:
    """Return a curve from its values (0..1) at equal steps."""
    return struct.pack(">4sII", b"curv", 0, len(values)) + struct.pack(
        f">{len(values)}H", *(round(65535 * value) for value in values)
    )


def gamma(exponent: float) -> bytes:
    """Return a curve with one exponent."""
    return struct.pack(">4sIIH", b"curv", 0, 1, round(256 * exponent)) + b"\0\0"


def profile(space: bytes, tags: dict[bytes, bytes], device: bytes = b"mntr") -> bytes:
    """Return a profile. space: four letters, such as b'GRAY'; tags: name -> content."""
    tags = {b"desc": _description("test"), b"cprt": b"text\0\0\0\0none\0\0\0\0", **tags}
    offset, entries, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        entries += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s12s4s", offset + len(body), b"none", 0x02400000, device, space, b"XYZ ",
                         struct.pack(">6H", 2022, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    header = header.ljust(68, b"\0") + struct.pack(">3i", *(round(65536 * value) for value in D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def xyz(values: Sequence[float]) -> bytes:
    """Return three numbers as a tag."""
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(65536 * value) for value in values))


def _description(text: str) -> bytes:
    content = text.encode() + b"\0"
    return struct.pack(">4sII", b"desc", 0, len(content)) + content + b"\0" * (4 + 4 + 2 + 1 + 67)
