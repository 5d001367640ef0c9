"""Timing several things side by side, so that neither drift nor a cold cache favours one."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from skinedge.system.progress import bar
from skinedge_bench.latency.protocol import Protocol

SETTLE = 2  # calls at the start of a block that are not counted: another file has just used the caches

Work = Callable[[int], object]


def interleave(work: Mapping[str, Work], protocol: Protocol, seed: int) -> dict[str, list[list[float]]]:
    """Samples in ms, block by block: in each round all of it has one block, in a new random order.

    So a busy minute of the machine falls on all alike.
    work: name -> what is timed, called with 0, 1, 2, ... in each block.
    """
    rng = np.random.default_rng(seed)
    for call in work.values():
        _block(call, protocol.warmup)
    samples: dict[str, list[list[float]]] = {name: [] for name in work}
    names = list(work)
    with bar("timing", protocol.blocks, "rounds") as advance, _no_collector():
        while names and (len(samples[names[0]]) < protocol.blocks or _seconds(samples) < protocol.min_seconds):
            for place in rng.permutation(len(names)):
                name = names[place]
                _block(work[name], SETTLE)
                samples[name].append(_block(work[name], protocol.block))
            advance(1)
    return samples


def _block(call: Work, count: int) -> list[float]:
    """Milliseconds of `count` calls."""
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
    """Measured seconds of the file that has fewest."""
    return min(sum(map(sum, blocks)) for blocks in samples.values()) / 1e3
