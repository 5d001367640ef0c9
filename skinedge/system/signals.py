"""Handle the signals that end a command: SIGINT, SIGTERM and SIGHUP all end it after its cleanup, as Ctrl-C does."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

RESEND_DELAY_S = 0.01
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delay the ending signals until the end of the block.

    Python runs signal handlers in the main thread only, so they never interrupt a block in another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        pending.append(number)

    with contextlib.ExitStack() as stack:
        stack.callback(_raise_all, pending)
        for number in ENDING:
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):  # None: not set from Python, which cannot restore it
                stack.callback(signal.signal, number, handler)
                signal.signal(number, record)
        yield


def _raise_all(numbers: list[int]) -> None:
    for number in numbers:
        signal.raise_signal(number)


def end_with_cleanup() -> None:
    """Make SIGTERM and SIGHUP raise SystemExit(128 + number), unless they are ignored, as under nohup.

    A signal during a finalizer, where Python drops the exception, is sent again after RESEND_DELAY_S.
    """
    sys.unraisablehook = functools.partial(_raise_later, sys.unraisablehook)
    for number in ENDING:
        if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)


def _raise_later(previous_hook: Callable[[sys.UnraisableHookArgs], object], dropped: sys.UnraisableHookArgs) -> None:
    error, number = dropped.exc_value, 0
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, SystemExit) and isinstance(error.code, int):
        number = error.code - 128
    if number in ENDING:
        threading.Timer(RESEND_DELAY_S, _to_main_thread, [number]).start()
    else:
        previous_hook(dropped)


def _to_main_thread(number: int) -> None:
    """Send a signal to the main thread, so that it interrupts that thread's system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def ended_by(number: int | None) -> BaseException:
    """Return the exception that ends a command after signal `number`; None if another process received it."""
    return KeyboardInterrupt() if number in (None, signal.SIGINT) else SystemExit(128 + number)


def end_at_once() -> None:
    """Make the ending signals end the process immediately and silently; for use after the cleanup."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise ended_by(number)
