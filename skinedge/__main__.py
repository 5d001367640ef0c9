"""The command `skinedge`, also as `python -m skinedge`."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command. Ctrl-C ends the process at once, without a word, while the command's modules are imported."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from skinedge.cli import process

    signal.signal(signal.SIGINT, interrupted)
    process()


if __name__ == "__main__":
    main()
