"""Entry point of the command `skinedge` and of `python -m skinedge`."""

import os
import sys

# `python -m` puts the current folder first, where a random.py or signal.py would replace Python's: imports come later.
_BY_NAME = __name__ == "__main__" and __spec__ is not None and not sys.flags.safe_path
if _BY_NAME and not __file__.startswith(f"{sys.path[0]}{os.sep}skinedge{os.sep}"):  # else skinedge is in that folder
    del sys.path[0]


def main() -> None:
    """Run the command and end the process. During its imports, Ctrl-C ends the process immediately and silently."""
    import signal

    sigint_handler = signal.getsignal(signal.SIGINT)
    if sigint_handler is not signal.SIG_IGN:  # ignored under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from skinedge.core.terminal import prepare_streams

    prepare_streams()
    from skinedge.cli import process

    signal.signal(signal.SIGINT, sigint_handler)
    process()


if __name__ == "__main__":
    main()
