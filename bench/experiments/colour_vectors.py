"""Write tests/colour_vectors.json: ICC profiles with the result that Python, the web page and the app must all give.

    python -m experiments.colour_vectors

Each vector has a profile, why it is not converted (`problem`), the SHA-256 of its table (int32, little-endian, in the
order output, channel, byte; null where pixels stay), and some colours before and after. The oracle of Python's own
results is littleCMS (tests/skinedge/core/test_colour.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core.colour import read_profile, to_srgb

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "colour_vectors.json"
SEED, COLOURS = 20_260_103, 100
XYZ = tuple[float, float, float]
# X, Y, Z of red, green and blue, adapted to D50.
SRGB: tuple[XYZ, ...] = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
DISPLAY_P3: tuple[XYZ, ...] = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE_RGB: tuple[XYZ, ...] = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO: tuple[XYZ, ...] = ((0.79767, 0.28804, 0), (0.13519, 0.71188, 0), (0.03134, 0.00009, 0.82491))


def fixed(*values: float) -> bytes:
    """Encode numbers as s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def sampled(*values: int) -> bytes:
    """Return a curve of the type 'curv': () the identity, one value a gamma in units of 1/256, else samples."""
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


def parametric(kind: int, *values: float) -> bytes:
    """Return a curve of the type 'para'."""
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + fixed(*values)


def named(name: str) -> bytes:
    """Return a description as in version 4."""
    text = name.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(
    name: bytes,
    colorants: Sequence[XYZ],
    curves: Sequence[bytes],
    *,
    space: bytes = b"RGB ",
    connection: bytes = b"XYZ ",
    more: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """Build an ICC profile of a display. name: content of its 'desc' tag; more: further tags."""
    tags = [(b"desc", name), (b"wtpt", b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249))]
    tags += [
        (kind, b"XYZ " + bytes(4) + fixed(*xyz))
        for kind, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)
    ]
    tags += [*zip((b"rTRC", b"gTRC", b"bTRC"), curves, strict=True), *more]
    table, content, start = b"", b"", 132 + 12 * len(tags)
    for kind, body in tags:
        table += struct.pack(">4sII", kind, start + len(content), len(body))
        content += body + bytes(-len(body) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x",
        start + len(content),
        0x04000000,
        b"mntr",
        space,
        connection,
        b"acsp",
        fixed(0.9642, 1, 0.8249),
    )
    return head + struct.pack(">I", len(tags)) + table + content


def profiles() -> dict[str, bytes]:
    """Return a profile for each kind of curve, of name and of refusal."""
    power = [round(65535 * (index / 63) ** 2.1) for index in range(64)]
    p3 = named("Display P3")
    version_2 = b"desc" + bytes(4) + struct.pack(">I", 17) + b"Adobe RGB (1998)\0" + bytes(78)
    return {
        "Display P3": profile(p3, DISPLAY_P3, [SRGB_CURVE] * 3),
        "Adobe RGB, version 2": profile(version_2, ADOBE_RGB, [sampled(563)] * 3),
        "ProPhoto RGB": profile(named("ProPhoto RGB"), PROPHOTO, [sampled(461)] * 3),
        "sRGB": profile(named("sRGB IEC61966-2.1"), SRGB, [SRGB_CURVE] * 3),
        "sampled curves": profile(named("camera"), ADOBE_RGB, [sampled(*power), sampled(0, 60000), sampled(*power)]),
        "linear": profile(named("linear"), SRGB, [sampled()] * 3),
        "parametric 0, 1 and 2": profile(
            named("scanner"),
            DISPLAY_P3,
            [parametric(0, 1.9), parametric(1, 2.2, 1.05, -0.05), parametric(2, 2.5, 0.9, 0.02, 0.08)],
        ),
        "parametric 4": profile(p3, DISPLAY_P3, [parametric(4, 2.3, 0.945, 0.05, 0.07, 0.04, 0.01, 0.002)] * 3),
        "without a name": profile(b"desc" + bytes(8), DISPLAY_P3, [SRGB_CURVE] * 3),
        "grey": profile(named("Dot Gain 20%"), SRGB, [SRGB_CURVE] * 3, space=b"GRAY"),
        "CMYK": profile(named("SWOP"), SRGB, [SRGB_CURVE] * 3, space=b"CMYK", connection=b"Lab "),
        "lookup tables": profile(p3, DISPLAY_P3, [SRGB_CURVE] * 3, more=[(b"A2B0", b"mft2" + bytes(60))]),
        "cut off": profile(p3, DISPLAY_P3, [SRGB_CURVE] * 3)[:-20],
        "no profile": b"not a profile",
        "out of range": profile(named("wide"), [(2, 1, 0), (0.1, 0.1, 0.1), (0.1, 0, 2)], [SRGB_CURVE] * 3),
    }


def vectors() -> list[dict[str, Any]]:
    """Return the vectors of all profiles."""
    colours = np.random.default_rng(SEED).integers(0, 256, (COLOURS, 1, 3), dtype=np.uint8)
    rows = []
    for kind, data in profiles().items():
        read, converted = read_profile(data), colours.copy()
        if read.table is not None:
            to_srgb(converted, read.table)
        rows.append(
            {
                "kind": kind,
                "profile": base64.b64encode(data).decode(),
                "name": read.name,
                "problem": read.problem,
                "table_sha256": read.table if read.table is None else digest(read.table),
                "colours": base64.b64encode(colours.tobytes()).decode(),
                "converted": base64.b64encode(converted.tobytes()).decode(),
            }
        )
    return rows


def digest(table: np.ndarray) -> str:
    """Return the SHA-256 of a conversion's table."""
    return hashlib.sha256(table.astype("<i4").tobytes()).hexdigest()


def main() -> None:
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
    print(f"{len(profiles())} vectors in {VECTORS}")


if __name__ == "__main__":
    main()
