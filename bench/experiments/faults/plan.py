"""Choose the experiments: each call site, then a seeded sample of all calls that prefers cheap commands."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.faults.experiment import Experiment
from experiments.faults.process import Kill
from experiments.faults.results import Reference
from experiments.faults.strike import ERRORS, SIGNALS, Call, Strike

TIMED = 0.25  # share of the sampled kills at a random time
SECONDS = 60.0  # CPU budget for the call sites of one command
LIMITED = 0.2  # share of the sampled errors with a full disk or a file size limit


@dataclass(frozen=True)
class Recorded:
    """A command's result without a fault, and its filesystem calls."""

    reference: Reference
    calls: tuple[Call, ...]

    @property
    def sites(self) -> Mapping[str, int]:
        """Call site -> number of calls, in the order of the first call."""
        return Counter(call.site for call in self.calls)


def _cost(recorded: Recorded) -> float:
    """Return the CPU seconds of an experiment: the command, and its repetition."""
    return 2 * max(0.1, recorded.reference.cpu_seconds)


class Planner:
    """Draws experiments and numbers them."""

    def __init__(self, recorded: Mapping[str, Recorded], seed: int, *, disks: bool) -> None:
        self._recorded = recorded
        self._rng = random.Random(seed)
        self._disks = disks
        self._number = 0

    def plan(self, kills: int, errors: int) -> list[Experiment]:
        """Return at least this many kills and errors; more if there are more call sites."""
        experiments = list(self._every_site())
        writing = [recorded for recorded in self._recorded.values() if recorded.calls]
        weights = [1 / _cost(recorded) for recorded in writing]
        while writing and counts(experiments)[0] < kills:
            experiments.append(self._kill(self._rng.choices(writing, weights)[0]))
        while writing and counts(experiments)[1] < errors:
            experiments.append(self._error(self._rng.choices(writing, weights)[0]))
        self._rng.shuffle(experiments)
        return experiments

    def _every_site(self) -> Iterator[Experiment]:
        """Yield SIGKILL, another signal and an error at each call site, in the cheapest command with that site.

        A slow command gets a sample of its sites, as many as SECONDS allow.
        """
        covered: set[str] = set()
        for recorded in sorted(self._recorded.values(), key=_cost):
            own = [site for site in recorded.sites if site not in covered]
            covered.update(own)
            strikes = [
                (site, action)
                for index, site in enumerate(own)
                for action in ("KILL", SIGNALS[1 + index % 3], ERRORS[index % 3])
            ]
            limit = int(SECONDS / _cost(recorded))
            for site, action in self._rng.sample(strikes, min(limit, len(strikes))):
                yield self._strike(recorded, site, 1, action)

    def _strike(self, recorded: Recorded, site: str, occurrence: int, action: str, delay: float = 0.0) -> Experiment:
        return self._experiment(recorded, strike=Strike(site, occurrence, action, delay))

    def _any_call(self, recorded: Recorded) -> tuple[str, int]:
        """Draw a call; return its site and its occurrence at that site, from 1."""
        index = self._rng.randrange(len(recorded.calls))
        site = recorded.calls[index].site
        return site, sum(call.site == site for call in recorded.calls[: index + 1])

    def _kill(self, recorded: Recorded) -> Experiment:
        action = self._rng.choice(SIGNALS)
        if self._rng.random() < TIMED:
            after = self._rng.uniform(0, recorded.reference.seconds)
            to_child = recorded.reference.command.children and self._rng.random() < 0.5
            return self._experiment(recorded, kill=Kill("KILL" if to_child else action, after, to_child))
        delay = self._rng.choice((0.0, self._rng.uniform(0.0001, 0.005)))
        return self._strike(recorded, *self._any_call(recorded), action, delay)

    def _error(self, recorded: Recorded) -> Experiment:
        if self._rng.random() < LIMITED:
            size = int(10 ** self._rng.uniform(3.61, 5.7))
            if self._disks and self._rng.random() < 0.5:
                return self._experiment(recorded, disk=size // 4096 * 4096)
            return self._experiment(recorded, largest_file=size)
        return self._strike(recorded, *self._any_call(recorded), self._rng.choice(ERRORS))

    def _experiment(self, recorded: Recorded, **fault: object) -> Experiment:
        self._number += 1
        return Experiment(self._number, recorded.reference.command.name, **fault)  # type: ignore[arg-type]


def counts(experiments: Sequence[Experiment]) -> tuple[int, int]:
    """Return the numbers of kills and of errors."""
    kills = sum(experiment.is_kill for experiment in experiments)
    return kills, len(experiments) - kills
