"""Converters side by side: they are Python in one thread, so each one but the first works in a process of its own.

This process makes what they share (the eager reference, the network that int8 is made from) and sends it to them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinedge.bundle import Bundle
from skinedge.cores import usable_cores
from skinedge.errors import MissingDependencyError, SkinedgeError
from skinedge.memory import keep_freed_memory
from skinedge.workers import Worker
from skinedge_export.ask import Ask, converter_of, recipe_of
from skinedge_export.climbing import Climbed, climb
from skinedge_export.materials import Materials
from skinedge_export.quiet import quiet

SMALLER = "If it was for want of memory, one --format at a time needs less."
SMALLER = "If it was for want of memory, one --format at a time needs less."
Outcome = Climbed | SkinedgeError  # a file, or why there is none


def climb_all(asked: Sequence[Ask], materials: Materials, scratch: Path) -> dict[Ask, Outcome]:
    """What came of each ask, in their order; the rungs' files are under `scratch`."""
    lanes: dict[str, list[Ask]] = {}
    for ask in asked:
        lanes.setdefault(ask.converter or ask.format, []).append(ask)
    if len(lanes) < 2 or usable_cores() == 1:
        return {ask: outcome(ask, materials, scratch) for ask in asked}
    own, *others = lanes.values()
    found: dict[Ask, Outcome] = {}
    with contextlib.ExitStack() as stack:
        away = [stack.enter_context(Lane(lane, materials.bundle.root, materials.images, scratch)) for lane in others]
        for calibrated in (False, True):  # what needs no calibration begins while that is prepared
            for lane in away:
                lane.send(calibrated, materials)
        for ask in own:
            found[ask] = outcome(ask, materials, scratch)
        for lane in away:
            found.update(lane.outcomes())
    return {ask: found[ask] for ask in asked}


def outcome(ask: Ask, materials: Materials, scratch: Path) -> Outcome:
    try:
        return climb(ask, materials, scratch)
    except SkinedgeError as error:
        return error


@dataclass(frozen=True)
class Parcel:
    """Asks, and what of their materials was made since the last parcel."""

    asks: tuple[Ask, ...]
    made: Mapping[Any, Any]

    def __str__(self) -> str:
        return ", ".join(f"{ask.format} {ask.precision}" for ask in self.asks)


@dataclass(frozen=True)
class LaneOpener:
    """The other process's side. first: one of the lane's asks, for whose converter libraries are imported ahead."""

    first: Ask
    root: Path
    images: Path | None
    scratch: Path

    def open(self) -> Callable[[Parcel], list[Outcome]]:
        keep_freed_memory()
        with missing_named(), quiet("importing what converts to", self.first.format):
            for library in converter_of(self.first).libraries:
                importlib.import_module(library)
        materials = Materials(Bundle.open(self.root), self.images)

        def work(parcel: Parcel) -> list[Outcome]:
            materials.take(parcel.made)
            with missing_named():
                return [outcome(ask, materials, self.scratch) for ask in parcel.asks]

        return work


@contextlib.contextmanager
def missing_named() -> Iterator[None]:
    """Raises: MissingDependencyError for a library that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or str(error), "export") from None


class Lane:
    """One converter's asks, in another process; as a context, it ends with it."""

    def __init__(self, asks: Sequence[Ask], root: Path, images: Path | None, scratch: Path) -> None:
        self._asks = asks
        opener = LaneOpener(asks[0], root, images, scratch)
        self._worker: Worker[Parcel, list[Outcome]] = Worker(opener, shown=True, todo=SMALLER)
        self._thread = ThreadPoolExecutor(1)
        self._sent: list[tuple[tuple[Ask, ...], Future[list[list[Outcome]]]]] = []
        self._known: set[Any] = set()
        self._found: dict[Ask, Outcome] = {}

    def __enter__(self) -> Lane:
        self._thread.submit(self._worker.work, ())  # imports, while this process has its own to do
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def send(self, calibrated: bool, materials: Materials) -> None:
        """Have the asks made that are calibrated, or those that are not, with what they need."""
        asks = tuple(ask for ask in self._asks if ask.calibrated == calibrated)
        if not asks:
            return
        try:
            for ask in asks:
                _prepare(ask, materials)
        except SkinedgeError as error:
            self._found.update(dict.fromkeys(asks, error))
            return
        made = {key: value for key, value in materials.made.items() if key not in self._known}
        self._known.update(made)
        self._sent.append((asks, self._thread.submit(self._worker.work, (Parcel(asks, made),))))

    def outcomes(self) -> dict[Ask, Outcome]:
        """What came of them."""
        ended: SkinedgeError | None = None
        for asks, done in self._sent:
            try:
                self._found.update(zip(asks, done.result()[0], strict=True))
            except SkinedgeError as error:
                ended = ended or error  # a process that has ended is one error, however much it had to do
                self._found.update(dict.fromkeys(asks, ended))
        return self._found


def _prepare(ask: Ask, materials: Materials) -> None:
    """Make what the ask's first file needs: a later one's, should there be any, its own process makes."""
    materials.job(recipe_of(ask, ask.precisions[0]), ask.form)
    materials.golden(ask.form)
    materials.val(ask.form)
