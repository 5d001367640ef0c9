"""Check that this system is 64-bit, as the runtimes need."""

from __future__ import annotations

import platform
import sys

from skinedge.core.errors import SkinedgeError

NEED_64 = "skinedge needs a 64-bit system: onnxruntime and ai-edge-litert have no 32-bit wheels"
INSTALL_64 = "Install a 64-bit system; on a Raspberry Pi (3 or newer), Raspberry Pi OS (64-bit)."


def is_64_bit() -> bool:
    """Return True for a 64-bit Python; a 64-bit kernel alone is not enough."""
    return sys.maxsize > 2**32


def require_64_bit() -> None:
    """Require a 64-bit Python. Raises: SkinedgeError on a 32-bit system, or in a 32-bit Python."""
    if not is_64_bit():
        raise SkinedgeError(f"{NEED_64}. This is {platform.machine()}, with a 32-bit Python", todo=INSTALL_64)
