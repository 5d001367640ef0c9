"""Interleaved timing of several functions, so that neither drift nor a cold cache favours one."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from skinedge.system.progress import bar
from skinedge_bench.latency.protocol import Protocol

SETTLE = 2  # uncounted calls at the start of a block: another file has just used the caches

Work = Callable[[int], object]


def interleave(work: Mapping[str, Work], protocol: Protocol, seed: int) -> dict[str, list[list[float]]]:
    """Return samples in ms, block by block; each round has one block per function, in a new random order.

    So load on the machine affects all functions alike.
    work: name -> function to time, called with 0, 1, 2, ... in each block.
    """
    rng = np.random.default_rng(seed)
    for call in work.values():
        _block(call, protocol.warmup)
    samples: dict[str, list[list[float]]] = {name: [] for name in work}
    names = list(work)
    with bar("timing", protocol.blocks, "rounds") as advance, _no_collector():
        while names and (len(samples[names[0]]) < protocol.blocks or _seconds(samples) < protocol.min_seconds):
            for index in rng.permutation(len(names)):
                name = names[index]
                _block(work[name], SETTLE)
                samples[name].append(_block(work[name], protocol.block))
            advance(1)
    return samples


def _block(call: Work, count: int) -> list[float]:
    """Return the milliseconds of each of `count` calls."""
    times = []
    for index in range(count):
        started = time.perf_counter_ns()
        call(index)
        times.append((time.perf_counter_ns() - started) / 1e6)
    return times


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python's garbage collector out of the timings."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(samples: Mapping[str, list[list[float]]]) -> float:
    """Return the smallest measured time of a function, in seconds."""
    return min(sum(map(sum, blocks)) for blocks in samples.values()) / 1e3
