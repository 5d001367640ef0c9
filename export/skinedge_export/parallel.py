"""Converters side by side: they are Python in one thread, so each one but the first works in a process of its own.

This process makes what they share (the eager reference, the network that int8 is made from) and sends it to them.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinedge.core.errors import SkinedgeError, unexpected
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu import usable_cores
from skinedge.system.malloc import keep_freed_memory
from skinedge.system.process_pool import Worker
from skinedge.system.requirements import import_failure
from skinedge_export.captured_output import captured_output
from skinedge_export.context import ExportContext
from skinedge_export.search.precision_search import SearchResult, search_precision
from skinedge_export.target import ExportTarget, converter_of, recipe_of

SMALLER = "If it was for want of memory, one --format at a time needs less."
OWN = ("cal",)  # materials that each process makes for itself: its last work needs them, and they are large
Outcome = SearchResult | SkinedgeError  # a file, or why there is none


def search_all(
    asked: Sequence[ExportTarget], materials: ExportContext, scratch: Path
) -> Generator[tuple[ExportTarget, Outcome], None, None]:
    """What came of each ask: at once where it needs no calibration, the others when no process works any more.

    The rungs' files are under `scratch`. Close it, as `contextlib.closing` does, to end the processes.
    """
    lanes = _lanes(asked)
    if len(lanes) < 2:
        yield from ((ask, outcome(ask, materials, scratch)) for ask in asked)
        return
    own, *others = lanes
    found: list[tuple[ExportTarget, Outcome]] = []
    with contextlib.ExitStack() as stack:
        root, images = materials.bundle.root, materials.images
        away: list[ExportWorker] = []
        for lane in others:
            try:
                away.append(stack.enter_context(ExportWorker(lane, root, images, scratch)))
            except Exception as error:
                found += [(ask, failure(ask, error)) for ask in lane]
        for calibrated in (False, True):  # what needs no calibration begins while that is prepared
            for started in away:
                started.send(calibrated, materials)
        for ask in own:
            made = (ask, outcome(ask, materials, scratch))
            if ask.calibrated:
                found.append(made)
            else:
                yield made
        for started in away:
            found += started.outcomes()
    yield from found


def _lanes(asked: Sequence[ExportTarget]) -> list[list[ExportTarget]]:
    """The asks, by their converters, in as many lanes as there are cores."""
    by_converter: dict[str, list[ExportTarget]] = {}
    for ask in asked:
        by_converter.setdefault(ask.converter or ask.format, []).append(ask)
    lanes = list(by_converter.values())
    while len(lanes) > usable_cores():
        lanes[-2:] = [lanes[-2] + lanes[-1]]
    return lanes


def outcome(ask: ExportTarget, materials: ExportContext, scratch: Path) -> Outcome:
    """Return the file, or the error of whatever kind that kept it from being made: it costs no other file."""
    try:
        with missing_named():
            return search_precision(ask, materials, scratch)
    except Exception as error:
        return failure(ask, error)


def failure(ask: ExportTarget, error: Exception) -> SkinedgeError:
    """Return the error of one target, which it names; errors that users know how to mend are as they were."""
    if type(error) is SkinedgeError and error.where != ask.shown:  # a converter's or runtime's
        error.where = f"{ask.shown} ({error.where})" if error.where else ask.shown
    return unexpected(error, ask.shown)


@dataclass(frozen=True)
class WorkerResult:
    """Asks, and what of their materials was made since the last parcel."""

    asks: tuple[ExportTarget, ...]
    made: Mapping[Any, Any]

    def __str__(self) -> str:
        return ", ".join(f"{ask.format} {ask.precision}" for ask in self.asks)


@dataclass(frozen=True)
class WorkerOpener:
    """The other process's side. first: one of the lane's asks, for whose converter libraries are imported ahead."""

    first: ExportTarget
    root: Path
    images: Path | None
    scratch: Path

    def open(self) -> Callable[[WorkerResult], list[Outcome]]:
        keep_freed_memory()
        tempfile.tempdir = str(self.scratch)  # what is left there, should this process be killed, goes with it
        with missing_named(), captured_output("importing what converts to", self.first.format):
            for library in getattr(converter_of(self.first), "libraries", ()):
                importlib.import_module(library)
        materials = ExportContext(Bundle.open(self.root), self.images)

        def work(parcel: WorkerResult) -> list[Outcome]:
            materials.take(parcel.made)
            return [outcome(ask, materials, self.scratch) for ask in parcel.asks]

        return work


@contextlib.contextmanager
def missing_named() -> Iterator[None]:
    """Raises: MissingDependencyError for a library that is not installed, IncompatibleDependencyError for one that
    cannot be imported as it is.
    """
    try:
        yield
    except ImportError as error:
        raise import_failure(error, "export") from None


class ExportWorker:
    """One converter's asks, in another process; as a context, it ends with it."""

    def __init__(self, asks: Sequence[ExportTarget], root: Path, images: Path | None, scratch: Path) -> None:
        self._asks = asks
        opener = WorkerOpener(asks[0], root, images, scratch)
        self._worker: Worker[WorkerResult, list[Outcome]] = Worker(opener, shown=True, todo=SMALLER)
        self._thread = ThreadPoolExecutor(1)
        self._sent: list[tuple[list[ExportTarget], Future[list[list[Outcome]]]]] = []
        self._known: set[Any] = set()
        self._found: dict[ExportTarget, Outcome] = {}

    def __enter__(self) -> ExportWorker:
        self._thread.submit(self._worker.work, ())  # imports, while this process has its own to do
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def send(self, calibrated: bool, materials: ExportContext) -> None:
        """Have the asks made that are calibrated, or those that are not, with what they need."""
        asks = [ask for ask in self._asks if ask.calibrated == calibrated and self._prepared(ask, materials)]
        if not asks:
            return
        made = {key: value for key, value in materials.made.items() if key not in (*self._known, *OWN)}
        self._known.update(made)
        self._sent.append((asks, self._thread.submit(self._worker.work, (WorkerResult(tuple(asks), made),))))

    def _prepared(self, ask: ExportTarget, materials: ExportContext) -> bool:
        """Whether what it needs could be made; else the error is its outcome."""
        try:
            _prepare(ask, materials)
        except Exception as error:
            self._found[ask] = failure(ask, error)
            return False
        return True

    def outcomes(self) -> list[tuple[ExportTarget, Outcome]]:
        """What came of them, in their order."""
        ended: SkinedgeError | None = None
        for asks, done in self._sent:
            try:
                self._found.update(zip(asks, done.result()[0], strict=True))
            except Exception as error:
                ended = ended or unexpected(error)  # a process that has ended is one error, however much it had to do
                self._found.update(dict.fromkeys(asks, ended))
        return [(ask, self._found[ask]) for ask in self._asks]


def _prepare(ask: ExportTarget, materials: ExportContext) -> None:
    """Make what the ask's first file needs: a later one's, should there be any, its own process makes."""
    materials.job(recipe_of(ask, "int8" if ask.calibrated else ask.precisions[0]), ask.form)
    materials.golden(ask.form)
    materials.val(ask.form)
