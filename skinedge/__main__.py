"""Entry point of the command `skinedge` and of `python -m skinedge`."""

from __future__ import annotations

import signal
from typing import NoReturn

from skinedge.core.terminal import prepare_streams


def main() -> NoReturn:
    """Run the command. During its imports, Ctrl-C ends the process immediately and silently."""
    prepare_streams()
    sigint_handler = signal.getsignal(signal.SIGINT)
    if sigint_handler is not signal.SIG_IGN:  # ignored under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from skinedge.cli import process

    signal.signal(signal.SIGINT, sigint_handler)
    process()


if __name__ == "__main__":
    main()
