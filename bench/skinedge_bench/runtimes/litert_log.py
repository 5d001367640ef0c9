"""Keep LiteRT's log line off standard error: once per process it reports XNNPACK, and no setting silences it."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any

from skinedge.run.crash_report import DEBUG

# A .tflite file of 276 bytes: ABS of one float.
TINY = zlib.decompress(
    base64.b64decode(
        "eNqTYGBgCHHzMWZg4GMQYRBg4GHgAIqwAHkMQB4DgwwQXwBiZiBmBGKILAhC+CA1PHCdLEASImYDxA5A7IKkjoGBCywPUscFNYsHKg/D"
        "DFj4TEBsALaXgeHJ////kfVVIqnlgbqeAeoOZHUVaOYKQNVzI6lPhViXCgCwgwqe"
    )
)


def silence(interpreter: Any) -> None:
    """Let LiteRT log its line while it loads a file of ours, so that messages about other files are all shown.

    interpreter: the module. SKINEDGE_DEBUG shows the line.
    """
    if not os.environ.get(DEBUG):
        with contextlib.suppress(OSError), _without_info():  # OSError: standard error is closed
            interpreter.Interpreter(model_content=TINY).allocate_tensors()


@contextlib.contextmanager
def _without_info() -> Iterator[None]:
    """Leave out the lines on file descriptor 2 that start with 'INFO:'; the others appear at the end."""
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        if sys.stderr is not None:
            sys.stderr.flush()
        shown = os.dup(2)
        stack.callback(os.close, shown)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            log.seek(0)
            os.write(2, b"".join(line for line in log if not line.startswith(b"INFO:")))
