"""Signals that end a command: SIGINT, SIGTERM and SIGHUP. All three end it as Ctrl-C does, after its cleanup."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

A_MOMENT = 0.01  # seconds
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Make the ending signals wait until the block is over.

    Python runs signal handlers in the main thread only, so in another thread none can interrupt the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    with contextlib.ExitStack() as stack:
        stack.callback(_raise_all, arrived)
        for number in ENDING:
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):  # None: another library's, which Python cannot restore
                stack.callback(signal.signal, number, handler)
                signal.signal(number, remember)
        yield


def _raise_all(numbers: list[int]) -> None:
    for number in numbers:
        signal.raise_signal(number)


def end_with_cleanup() -> None:
    """From now on SIGTERM and SIGHUP raise SystemExit(128 + number), unless they are ignored, as under nohup.

    An exception of a signal that comes in a finalizer, where Python drops it, is raised again a moment later.
    """
    sys.unraisablehook = functools.partial(_raise_later, sys.unraisablehook)
    for number in ENDING:
        if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)


def _raise_later(otherwise: Callable[[sys.UnraisableHookArgs], object], dropped: sys.UnraisableHookArgs) -> None:
    error, number = dropped.exc_value, 0
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, SystemExit) and isinstance(error.code, int):
        number = error.code - 128
    if number in ENDING:
        threading.Timer(A_MOMENT, _to_main_thread, [number]).start()
    else:
        otherwise(dropped)


def _to_main_thread(number: int) -> None:
    """The thread that a signal interrupts in what it waits for is the one that it is sent to."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def ended_by(number: int | None) -> BaseException:
    """Return what ends a command that a signal, None for another process's, has asked to stop."""
    return KeyboardInterrupt() if number in (None, signal.SIGINT) else SystemExit(128 + number)


def end_at_once() -> None:
    """From now on the ending signals end the process without a word: nothing is left to clean up."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise ended_by(number)
