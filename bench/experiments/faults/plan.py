"""Choose the experiments: each call site, then a seeded sample of all calls, those of cheap commands more often."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.faults.experiment import Experiment
from experiments.faults.process import Kill
from experiments.faults.results import Reference
from experiments.faults.strike import ERRORS, SIGNALS, Call, Strike

TIMED = 0.25  # share of the sampled kills that come at a random time
SECONDS = 60.0  # of CPU for the call sites of one command
LIMITED = 0.2  # share of the sampled errors that are a full disk or a limit of size


@dataclass(frozen=True)
class Recorded:
    """A command: its undisturbed result, and the filesystem calls of it."""

    reference: Reference
    calls: tuple[Call, ...]

    @property
    def sites(self) -> Mapping[str, int]:
        """Call site -> how often it is passed, in the order of the first time."""
        return Counter(call.site for call in self.calls)


def _cost(known: Recorded) -> float:
    """CPU seconds of an experiment: the command, and the command once more."""
    return 2 * max(0.1, known.reference.cpu_seconds)


class Planner:
    """Draws experiments, with numbers of their own."""

    def __init__(self, recorded: Mapping[str, Recorded], seed: int, *, disks: bool) -> None:
        self._recorded = recorded
        self._rng = random.Random(seed)
        self._disks = disks
        self._number = 0

    def plan(self, kills: int, errors: int) -> list[Experiment]:
        """At least as many of each kind; more where there are more call sites."""
        chosen = list(self._every_site())
        writing = [known for known in self._recorded.values() if known.calls]
        costs = [1 / _cost(known) for known in writing]
        while writing and sum(each.is_kill for each in chosen) < kills:
            chosen.append(self._kill(self._rng.choices(writing, costs)[0]))
        while writing and sum(not each.is_kill for each in chosen) < errors:
            chosen.append(self._error(self._rng.choices(writing, costs)[0]))
        self._rng.shuffle(chosen)
        return chosen

    def _every_site(self) -> Iterator[Experiment]:
        """Kill -9, another signal and an error at each call site, in the cheapest command that passes it.

        A command that takes long is disturbed at a sample of its own sites, as many as SECONDS allow.
        """
        passed: set[str] = set()
        for known in sorted(self._recorded.values(), key=_cost):
            own = [site for site in known.sites if site not in passed]
            passed.update(own)
            disturbed = [
                (site, action)
                for index, site in enumerate(own)
                for action in ("KILL", SIGNALS[1 + index % 3], ERRORS[index % 3])
            ]
            most = int(SECONDS / _cost(known))
            for site, action in self._rng.sample(disturbed, min(most, len(disturbed))):
                yield self._struck(known, site, 1, action)

    def _struck(self, known: Recorded, site: str, occurrence: int, action: str, delay: float = 0.0) -> Experiment:
        return self._experiment(known, strike=Strike(site, occurrence, action, delay))

    def _any_call(self, known: Recorded) -> tuple[str, int]:
        index = self._rng.randrange(len(known.calls))
        site = known.calls[index].site
        return site, sum(call.site == site for call in known.calls[: index + 1])

    def _kill(self, known: Recorded) -> Experiment:
        action = self._rng.choice(SIGNALS)
        if self._rng.random() < TIMED:
            after = self._rng.uniform(0, known.reference.seconds)
            to_child = known.reference.command.children and self._rng.random() < 0.5
            return self._experiment(known, kill=Kill("KILL" if to_child else action, after, to_child))
        delay = self._rng.choice((0.0, self._rng.uniform(0.0001, 0.005)))
        return self._struck(known, *self._any_call(known), action, delay)

    def _error(self, known: Recorded) -> Experiment:
        if self._rng.random() < LIMITED:
            size = int(10 ** self._rng.uniform(3.61, 5.7))
            if self._disks and self._rng.random() < 0.5:
                return self._experiment(known, disk=size // 4096 * 4096)
            return self._experiment(known, largest_file=size)
        return self._struck(known, *self._any_call(known), self._rng.choice(ERRORS))

    def _experiment(self, known: Recorded, **how: object) -> Experiment:
        self._number += 1
        return Experiment(self._number, known.reference.command.name, **how)  # type: ignore[arg-type]


def counts(experiments: Sequence[Experiment]) -> tuple[int, int]:
    """Kills and errors."""
    kills = sum(each.is_kill for each in experiments)
    return kills, len(experiments) - kills
