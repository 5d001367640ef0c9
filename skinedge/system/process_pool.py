"""Apply one function to many items in worker processes: results in order, a bounded number of items in flight.

Processes, not threads, although runtimes and decoders release Python's GIL while they compute: of the ideal speed of
two cores, two threads reached 67 %, two processes 83 % including and 92 % excluding their start (1,500 images of
200 x 150 pixels, EfficientNet-Lite0 in int8, 5.8 ms each).

A worker is `python -m skinedge.system.process_pool`. It reads pickled messages from its standard input: an opener, then
lists of items; it answers each list with a list of results. It ends with its parent process (`child_process`), and has
its own process group, so that Ctrl-C reaches only the parent.
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

from skinedge.core import remarks
from skinedge.core.errors import SkinedgeError, unexpected
from skinedge.system.child_process import start_python

CHUNK = 4  # items per message: a message costs 0.1 ms, and an interrupted command repeats the items in flight
AHEAD = 16  # maximum queued messages per worker; bounds the wait behind one slow image
MEMORY_HINT = "If memory ran out, use fewer --jobs. Results already in --out are kept for --resume."

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Opener(Protocol[T_contra, R_co]):
    """First message to a worker, pickled; `open` returns the function applied to each item, once per worker."""

    def open(self) -> Callable[[T_contra], R_co]: ...


def in_order(opener: Opener[T, R], items: Iterable[T], jobs: int) -> Generator[R, None, None]:
    """Apply the worker to each item in `jobs` processes, or in this one for 1; yield results in input order.

    Memory does not grow with the number of items. Close the generator, e.g. with `contextlib.closing`, to end the
    processes.
    Raises: SkinedgeErrors of the worker function, and SkinedgeError when a process ends; earlier messages' results
        are yielded first.
    """
    if jobs == 1:
        yield from map(opener.open(), items)
        return
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(jobs))
        idle: SimpleQueue[Worker[T, R]] = SimpleQueue()
        for _ in range(jobs):
            idle.put(stack.enter_context(Worker(opener)))
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)  # entered last, so it runs first

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
    """One worker process; as a context manager, it kills the process on exit.

    shown: True passes its standard error through; False quotes its last line in the error if the process ends;
    todo: fix for that error.
    """

    def __init__(self, opener: Opener[T, R], *, shown: bool = False, todo: str = MEMORY_HINT) -> None:
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
        """Return the results of `chunk`. Raises: SkinedgeErrors of the worker function, or when the process ends."""
        try:
            for message in (*self._first, chunk):
                _send(message, self._requests)
            self._first = ()
            answer, facts = pickle.load(self._answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._ended(chunk) from None
        remarks.merge(facts)
        if isinstance(answer, SkinedgeError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def _ended(self, chunk: Sequence[T]) -> SkinedgeError:
        code = self._process.wait()
        how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with status {code}"
        self._errors.seek(0)
        stderr_lines = self._errors.read().decode(errors="replace").strip().splitlines()
        why = f": {stderr_lines[-1]}" if code > 0 and stderr_lines else ""
        return SkinedgeError(
            f"a worker process {how}{why}, while processing one of: {_listed(chunk)}",
            todo=self._todo,
        )


def _listed(chunk: Sequence[Any]) -> str:
    return ", ".join(map(str, chunk))


def _chunks(items: Iterable[T]) -> Iterator[Sequence[T]]:
    iterator = iter(items)
    while chunk := tuple(itertools.islice(iterator, CHUNK)):
        yield chunk


def _send(message: Any, stream: IO[bytes]) -> None:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)  # an error here writes no partial message
    stream.write(content)
    stream.flush()


def serve() -> None:
    """Run a worker process: answer the messages on standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # redirect the output of libraries to standard error
    opener, work = pickle.load(requests), None
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has closed the pipe
        while True:
            chunk = pickle.load(requests)
            try:
                work = work or opener.open()
                _send(([work(item) for item in chunk], remarks.take()), answers)
            except BrokenPipeError:
                raise
            except Exception as error:  # applies to these items only: later ones may succeed
                where = f"in a worker process, while processing one of: {_listed(chunk)}"
                _send((unexpected(error, where), remarks.take()), answers)


if __name__ == "__main__":
    serve()
