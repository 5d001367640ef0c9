"""Pack the APK: aapt2's package with code, model and libraries, aligned so that Android can map them; and sign it."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from steps import BUILD, CACHE, JDK, MIN_SDK, run, tool

KEY = CACHE / "debug.jks"
PASSWORD = "android"  # of a debug key, not a secret
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # fixed time stamp, for reproducible builds
ALIGNMENT_FIELD = 0xD935  # zip extra field in which apksigner finds, and keeps, an entry's alignment
_LOCAL_HEADER = 30


def pack(package: Path, added: Mapping[str, bytes]) -> Path:
    """Add files to aapt2's package; return the path of the unsigned APK. added: name in the APK -> content.

    Libraries are stored uncompressed and aligned to 16 KiB; models, and entries that aapt2 stored, to 4 bytes.
    """
    out = BUILD / "unsigned.apk"
    with zipfile.ZipFile(package) as linked, zipfile.ZipFile(out, "w") as apk:
        for entry in linked.infolist():
            _put(apk, entry.filename, linked.read(entry), stored=entry.compress_type == zipfile.ZIP_STORED)
        for name, content in sorted(added.items()):
            _put(apk, name, content, stored=name.endswith((".so", ".tflite")))
    return out


def alignment(name: str) -> int:
    """Return the alignment of an uncompressed entry in bytes: 16 KiB pages for native libraries, else a word."""
    return 16384 if name.endswith(".so") else 4


def _put(apk: zipfile.ZipFile, name: str, content: bytes, *, stored: bool) -> None:
    entry = zipfile.ZipInfo(name, LONG_AGO)
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    if stored:
        field = 6  # bytes of the extra field before the padding
        padding = -(apk.fp.tell() + _LOCAL_HEADER + len(name.encode()) + field) % alignment(name)
        entry.extra = struct.pack("<HHH", ALIGNMENT_FIELD, 2 + padding, alignment(name)) + bytes(padding)
    apk.writestr(entry, content, compresslevel=9)
    entry.extra = b""  # the central directory, written last, needs none


def sign(unsigned: Path, out: Path) -> Path:
    """Sign (schemes 2 and 3) with a debug key, created on first use. Raises: Unavailable without apksigner."""
    apksigner = tool("apksigner", "apksigner")
    if not KEY.exists():
        make_key(KEY)
    out.parent.mkdir(parents=True, exist_ok=True)
    run(
        [
            *(apksigner, "sign", "--ks", KEY, "--ks-pass", f"pass:{PASSWORD}", "--min-sdk-version", MIN_SDK),
            *("--v1-signing-enabled", "false", "--v2-signing-enabled", "true", "--v3-signing-enabled", "true"),
            *("--out", out, unsigned),
        ]
    )
    out.with_name(f"{out.name}.idsig").unlink(missing_ok=True)
    return out


def make_key(path: Path) -> None:
    """Create a key pair for debug builds, valid for 27 years."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    run(
        [
            *(tool("keytool", JDK), "-genkeypair", "-keystore", part, "-storepass", PASSWORD),
            *("-keypass", PASSWORD, "-alias", "debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000"),
            *("-dname", "CN=Android Debug,O=Android,C=US"),
        ]
    )
    part.replace(path)
