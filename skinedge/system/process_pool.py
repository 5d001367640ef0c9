"""The same work on many items in several processes: results in order, a bounded number of items on their way.

Processes, not threads, although runtimes and decoders let go of Python's lock while they compute: of twice what one
core does, two threads did 67 %, and two processes 83 % with their start and 92 % without (1,500 images of 200 x 150
pixels, EfficientNet-Lite0 in int8, 5.8 ms each).

A worker is `python -m skinedge.system.process_pool`. From its standard input it reads an opener and then lists of
items, pickled; it answers each list with one of results. It ends with the process that started it (`child_process`),
and is in a group of its own, so that Ctrl-C reaches that process alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, Any, Generic, Protocol, TypeVar, cast

from skinedge.core.errors import SkinedgeError, unexpected
from skinedge.system.child_process import start_python

CHUNK = 4  # items a message: it costs .1 ms, and what is on its way when the command is stopped is done again
AHEAD = 16  # messages for each worker: as long may one slow image keep the results behind it waiting
FEWER = "If it was for want of memory, fewer --jobs need less. What --out has is kept for --resume."

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Opener(Protocol[T_contra, R_co]):
    """What a worker is sent first, pickled; its result does the work on one item, and stays in the worker."""

    def open(self) -> Callable[[T_contra], R_co]: ...


def in_order(opener: Opener[T, R], items: Iterable[T], jobs: int) -> Generator[R, None, None]:
    """What the opened work makes of each item, in their order, by so many processes; by this one for one job.

    Memory does not grow with the number of items. Close it, as `contextlib.closing` does, to end the processes.
    Raises: what the work raises, if a SkinedgeError, and SkinedgeError when a process ends: after the results of the
    messages before.
    """
    if jobs == 1:
        yield from map(opener.open(), items)
        return
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(jobs))
        idle: SimpleQueue[Worker[T, R]] = SimpleQueue()
        for _ in range(jobs):
            idle.put(stack.enter_context(Worker(opener)))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)  # first, as the last that was entered

        def work(chunk: Sequence[T]) -> list[R]:
            worker = idle.get()
            try:
                return worker.work(chunk)
            finally:
                idle.put(worker)

        ahead: deque[Future[list[R]]] = deque()
        for chunk in _chunks(items):
            ahead.append(threads.submit(work, chunk))
            if len(ahead) >= AHEAD * jobs:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


class Worker(Generic[T, R]):
    """One process; as a context, it is killed at its end.

    shown: what it says on standard error goes where this process's does, else the last line is quoted should it end;
    todo: what to do when it has ended.
    """

    def __init__(self, opener: Opener[T, R], *, shown: bool = False, todo: str = FEWER) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  read when the process has ended
        self._todo = todo
        pipe = subprocess.PIPE
        self._child = start_python(
            "skinedge.system.process_pool", stdin=pipe, stdout=pipe, stderr=None if shown else self._errors
        )
        self._process = self._child.process
        self._requests, self._answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self._first: tuple[Opener[T, R], ...] = (opener,)

    def __enter__(self) -> Worker[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()
        self._errors.close()

    def work(self, chunk: Sequence[T]) -> list[R]:
        """The results of some items. Raises: SkinedgeError as the work does, and when the process has ended."""
        try:
            for message in (*self._first, chunk):
                _send(message, self._requests)
            self._first = ()
            answer = pickle.load(self._answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._ended(chunk) from None
        if isinstance(answer, SkinedgeError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def _ended(self, chunk: Sequence[T]) -> SkinedgeError:
        code = self._process.wait()
        how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with status {code}"
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if code > 0 and said else ""
        return SkinedgeError(
            f"a worker process {how}{why}, at one of these: {_shown(chunk)}",
            todo=self._todo,
        )


def _shown(chunk: Sequence[Any]) -> str:
    return ", ".join(map(str, chunk))


def _chunks(items: Iterable[T]) -> Iterator[Sequence[T]]:
    iterator = iter(items)
    while chunk := tuple(itertools.islice(iterator, CHUNK)):
        yield chunk


def _send(message: Any, stream: IO[bytes]) -> None:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)  # whole, or an error before the first byte
    stream.write(content)
    stream.flush()


def serve() -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides when this one ends
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    opener, work = pickle.load(requests), None
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody asks, or listens, any more
        while True:
            chunk = pickle.load(requests)
            try:
                work = work or opener.open()
                _send([work(item) for item in chunk], answers)
            except BrokenPipeError:
                raise
            except Exception as error:  # whatever it is, it is these items' own: the next ones may do
                _send(unexpected(error, f"in a worker process, at one of these: {_shown(chunk)}"), answers)


if __name__ == "__main__":
    serve()
