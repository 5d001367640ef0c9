"""Work in several processes: in order, bounded, and every way in which a process can end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openers import Pids, Squares, Unopenable

from skinedge.core.errors import DataError, SkinedgeError
from skinedge.system.process_pool import AHEAD, CHUNK, Worker, in_order

PARENT = """
import itertools, sys
from openers import Pids
from skinedge.system.process_pool import in_order
for pid in in_order(Pids(), itertools.count(), 2):
    print(pid, flush=True)
"""


def alive(pid: int) -> bool:
    """Whether a process is there and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK, 3 * AHEAD * CHUNK + 1])
def test_results_come_in_the_items_order(jobs: int, count: int) -> None:
    assert list(in_order(Squares(), range(count), jobs)) == [number * number for number in range(count)]


def test_items_are_taken_only_as_far_as_results_are() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with closing(in_order(Squares(), items(), 2)) as results:
        for asked in range(1, 400):
            next(results)
            assert taken <= asked + (2 * AHEAD + 1) * CHUNK


def test_several_processes_work_and_closing_ends_them() -> None:
    with closing(in_order(Pids(), itertools.count(), 2)) as results:
        pids = set(itertools.islice(results, 500))
        assert len(pids) == 2 and os.getpid() not in pids and all(map(alive, pids))
    assert not any(map(alive, pids))


def test_an_error_comes_after_the_results_before_it() -> None:
    results = in_order(Squares(), [*range(10 * CHUNK), "bad", *range(1000)], 2)
    assert [next(results) for _ in range(10 * CHUNK)] == [number * number for number in range(10 * CHUNK)]
    with pytest.raises(DataError, match="no number") as found:
        next(results)
    assert (found.value.where, found.value.todo) == ("here", "Give numbers.")


def test_what_cannot_be_opened_says_so() -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        next(in_order(Unopenable(), range(10), 2))


@pytest.mark.parametrize(("item", "words"), [("killed", "signal 9"), ("bug", "ZeroDivisionError: a bug")])
def test_what_ends_a_process_or_its_work_is_a_clear_error_that_names_the_items(item: str, words: str) -> None:
    results = in_order(Squares(), [*range(2 * CHUNK), 7, item, *range(100)], 2)
    assert [next(results) for _ in range(2 * CHUNK)] == [number * number for number in range(2 * CHUNK)]
    with pytest.raises(SkinedgeError, match=words) as found:
        next(results)
    assert f"7, {item}, 0" in str(found.value)


def test_a_worker_outlives_errors_of_every_kind() -> None:
    """What fails is this message; the next one is answered."""
    with Worker(Squares()) as worker:
        for bad, kind in (("bug", "ZeroDivisionError"), ("secret", "Error"), ("full", "MemoryError: no message")):
            with pytest.raises(SkinedgeError, match=kind) as caught:
                worker.work([3, bad])
            assert any("openers.py" in note or "pickle" in note for note in caught.value.__notes__)
            assert worker.work([3, 4]) == [9, 16]
        with pytest.raises(Exception, match="pickle"):
            worker.work([lambda: 0])
        assert worker.work([5]) == [25]


def test_workers_end_when_the_process_that_started_them_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout
        pids = {int(next(parent.stdout)) for _ in range(500)}
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    while any(map(alive, pids)):  # until the test's own time limit
        time.sleep(0.01)
