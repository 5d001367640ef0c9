"""Suppression of converters' output, some of it from C++, which is shown only if they fail."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import IO

from skinedge.core.errors import SkinedgeError, traced

_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def captured_output(action: str, where: str) -> Iterator[None]:
    """Capture all output of a library call.

    File descriptors 1 and 2 belong to the whole process: output of other threads is captured too, and threads that
    capture take turns.
    Raises: SkinedgeError, which names `action` and `where` and quotes the message, for exceptions of the library;
    SkinedgeError, OSError, ImportError, MemoryError and interrupts pass unchanged.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        try:
            with _streams_to(log), warnings.catch_warnings(), _no_logging():
                warnings.simplefilter("ignore")
                yield
        except (SkinedgeError, OSError, ImportError, MemoryError):
            raise
        except Exception as error:  # converters raise exceptions of any kind
            lines = [line for line in str(error).splitlines() if line.strip()] or _tail(log) or ["no message"]
            failed = SkinedgeError(
                f"{action} failed: {type(error).__name__}: {lines[0].strip()[:300]}",
                where=where,
                todo="The network may use an operation that this converter lacks: try another --format, or for TFLite "
                "--converter onnx2tf.",
            )
            raise traced(failed, error) from error


@contextlib.contextmanager
def _streams_to(log: IO[str]) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(fd, os.dup(fd)) for fd in (1, 2)]
    try:
        for fd, _ in saved:
            os.dup2(log.fileno(), fd)
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
    finally:
        with contextlib.suppress(OSError):  # a full disk must not hide the converter's exception
            log.flush()
        for fd, copy in saved:
            os.dup2(copy, fd)
            os.close(copy)


@contextlib.contextmanager
def _no_logging() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(previous)


def _tail(log: IO[str]) -> list[str]:
    log.seek(0)
    return [line for line in log.read().splitlines() if line.strip()][-1:]
