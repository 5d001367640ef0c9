"""The process pool: order, bounded memory, and every way in which a worker can end."""

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
from openers import Pids, Remarks, Squares, Unopenable

from skinedge.core import remarks
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
    """Return True for a running process, False for a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK, 3 * AHEAD * CHUNK + 1])
def test_results_are_in_input_order(jobs: int, count: int) -> None:
    assert list(in_order(Squares(), range(count), jobs)) == [number * number for number in range(count)]


def test_number_of_items_in_flight_is_bounded() -> None:
    consumed = 0

    def items() -> Iterator[int]:
        nonlocal consumed
        while True:
            consumed += 1
            yield consumed

    with closing(in_order(Squares(), items(), 2)) as results:
        for result_count in range(1, 400):
            next(results)
            assert consumed <= result_count + (2 * AHEAD + 1) * CHUNK


@pytest.mark.parametrize("jobs", [1, 2])
def test_remarks_of_workers_come_back_each_image_once(jobs: int) -> None:
    items = [f"image {index}" for index in range(3 * CHUNK)] * 2
    assert list(in_order(Remarks(), items, jobs)) == items
    assert remarks.lines(remarks.take()) == [f"{3 * CHUNK} images: seen"]
    with pytest.raises(DataError):
        list(in_order(Remarks(), ["good", "bad"], jobs))
    assert remarks.lines(remarks.take()) == ["2 images: seen"]


def test_several_processes_work_until_the_generator_is_closed() -> None:
    with closing(in_order(Pids(), itertools.count(), 2)) as results:
        pids = set(itertools.islice(results, 500))
        assert len(pids) == 2 and os.getpid() not in pids and all(map(alive, pids))
    assert not any(map(alive, pids))


def test_error_is_raised_after_the_earlier_results() -> None:
    results = in_order(Squares(), [*range(10 * CHUNK), "bad", *range(1000)], 2)
    assert [next(results) for _ in range(10 * CHUNK)] == [number * number for number in range(10 * CHUNK)]
    with pytest.raises(DataError, match="no number") as caught:
        next(results)
    assert (caught.value.where, caught.value.todo) == ("here", "Give numbers.")


def test_error_of_the_opener_is_raised() -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        next(in_order(Unopenable(), range(10), 2))


@pytest.mark.parametrize(("item", "words"), [("killed", "signal 9"), ("bug", "ZeroDivisionError: a bug")])
def test_error_of_a_worker_process_names_the_items(item: str, words: str) -> None:
    results = in_order(Squares(), [*range(2 * CHUNK), 7, item, *range(100)], 2)
    assert [next(results) for _ in range(2 * CHUNK)] == [number * number for number in range(2 * CHUNK)]
    with pytest.raises(SkinedgeError, match=words) as caught:
        next(results)
    assert f"7, {item}, 0" in str(caught.value)


def test_worker_survives_errors_of_every_kind() -> None:
    """An error concerns one message only; the worker answers the next one."""
    with Worker(Squares()) as worker:
        for bad, kind in (("bug", "ZeroDivisionError"), ("secret", "Error"), ("full", "MemoryError: no message")):
            with pytest.raises(SkinedgeError, match=kind) as caught:
                worker.work([3, bad])
            assert any("openers.py" in note or "pickle" in note for note in caught.value.__notes__)
            assert worker.work([3, 4]) == [9, 16]
        with pytest.raises(Exception, match="pickle"):
            worker.work([lambda: 0])
        assert worker.work([5]) == [25]


def test_workers_end_when_their_parent_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout
        pids = {int(next(parent.stdout)) for _ in range(500)}
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    while any(map(alive, pids)):  # bounded by the test's timeout
        time.sleep(0.01)
