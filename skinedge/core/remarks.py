"""Facts about images that a command states once, each with the number of images that it holds for.

The decoder adds them, in whatever process or thread it runs; `skinedge.system.process_pool` brings those of worker
processes back, and the command line prints them at its end. An image that is decoded twice counts once.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping

Remarks = dict[str, set[int]]  # fact -> checksums of the files

_remarks: Remarks = {}
_lock = threading.Lock()


def add(fact: str, data: bytes) -> None:
    """Add a fact. fact: completes '3 images: ...'; data: the file's bytes, which identify the image."""
    merge({fact: {zlib.crc32(data)}})


def merge(more: Mapping[str, set[int]]) -> None:
    """Add the facts of another process."""
    with _lock:
        for fact, images in more.items():
            _remarks.setdefault(fact, set()).update(images)


def take() -> Remarks:
    """Return all facts and forget them."""
    with _lock:
        taken = dict(_remarks)
        _remarks.clear()
        return taken


def lines(remarks: Mapping[str, set[int]]) -> list[str]:
    """Write each fact as a line, the most frequent first."""
    ordered = sorted(remarks.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{len(images)} image{'s' if len(images) > 1 else ''}: {fact}" for fact, images in ordered]
