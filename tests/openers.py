"""Openers and work of the processes in test_process_pool.py: they import this module by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from skinedge.core.errors import DataError


@dataclass(frozen=True)
class Squares:
    """Squares of numbers, the even ones slowly; what is no number has a way of its own to go wrong."""

    def open(self) -> Callable[[object], int]:
        print("a library's greeting")
        return self.square

    def square(self, item: object) -> int:
        if item == "bad":
            raise DataError("no number", where="here", todo="Give numbers.")
        if item == "bug":
            raise ZeroDivisionError("a bug")
        if item == "full":
            raise MemoryError
        if item == "secret":
            return lambda: 0  # type: ignore[return-value]  # no process can be sent it
        if item == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        assert isinstance(item, int)
        time.sleep(0.001 * (item % 2 == 0))
        os.write(1, b"noise on standard output\n")
        return item * item


@dataclass(frozen=True)
class Pids:
    """Which process did it."""

    def open(self) -> Callable[[object], int]:
        return lambda item: os.getpid()


@dataclass(frozen=True)
class Unopenable:
    def open(self) -> Callable[[object], int]:
        raise DataError("cannot be opened")
