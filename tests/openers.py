"""Openers and worker functions for test_process_pool.py; worker processes import this module by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from skinedge.core import remarks
from skinedge.core.errors import DataError


@dataclass(frozen=True)
class Squares:
    """Squares numbers, even ones slowly; each string causes a different failure."""

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
            return lambda: 0  # type: ignore[return-value]  # cannot be pickled
        if item == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        assert isinstance(item, int)
        time.sleep(0.001 * (item % 2 == 0))
        os.write(1, b"noise on standard output\n")
        return item * item


@dataclass(frozen=True)
class Pids:
    """Returns the worker's process id for each item."""

    def open(self) -> Callable[[object], int]:
        return lambda item: os.getpid()


@dataclass(frozen=True)
class Unopenable:
    def open(self) -> Callable[[object], int]:
        raise DataError("cannot be opened")


@dataclass(frozen=True)
class Remarks:
    """Adds a remark on each item; fails for 'bad' after it."""

    def open(self) -> Callable[[str], str]:
        return self.remark

    def remark(self, item: str) -> str:
        remarks.add("seen", item.encode())
        if item == "bad":
            raise DataError("no text")
        return item
