"""Conversion in several processes: converters are single-threaded Python, so each but the first runs in a worker.

This process computes what the targets share (reference outputs, the network that int8 is made from) and sends it to the
workers.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import SkinedgeError, unexpected
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu import usable_cores
from skinedge.system.malloc import keep_freed_memory
from skinedge.system.process_pool import Worker
from skinedge.system.requirements import import_failure
from skinedge_export.captured_output import captured_output
from skinedge_export.context import ExportContext, Results
from skinedge_export.search.precision_search import SearchResult, search_precision
from skinedge_export.target import ExportTarget, converter_of, recipe_of

SMALLER = "If it was for want of memory, one --format at a time needs less."
NOT_SENT = "cal"  # result of the context that each process loads itself: needed last, and large
Outcome = SearchResult | SkinedgeError  # of one target


def search_all(
    targets: Sequence[ExportTarget], context: ExportContext, scratch: Path
) -> Generator[tuple[ExportTarget, Outcome], None, None]:
    """Yield each target's outcome: without calibration as soon as it is there, the others once all workers are idle.

    The candidates' files are under `scratch`. Close the generator, as `contextlib.closing` does, to end the workers.
    """
    own, *others = _by_process(targets) or [[]]
    outcomes: list[tuple[ExportTarget, Outcome]] = []
    with contextlib.ExitStack() as stack:
        workers: list[ExportWorker] = []
        for group in others:
            try:
                workers.append(stack.enter_context(ExportWorker(group, context, scratch)))
            except Exception as error:
                outcomes += [(target, failure(target, error)) for target in group]
        for calibrated in (False, True):  # targets without calibration start while the calibrated ones are prepared
            for worker in workers:
                worker.send(calibrated, context)
        for target in own:
            outcome = search_or_failure(target, context, scratch)
            if target.calibrated and others:
                outcomes.append((target, outcome))
            else:
                yield target, outcome
        for worker in workers:
            outcomes += worker.outcomes()
    yield from outcomes


def _by_process(targets: Sequence[ExportTarget]) -> list[list[ExportTarget]]:
    """Group the targets by converter, into at most as many groups as there are usable cores."""
    by_converter: dict[str, list[ExportTarget]] = {}
    for target in targets:
        by_converter.setdefault(target.converter or target.format, []).append(target)
    groups = list(by_converter.values())
    while len(groups) > usable_cores():
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def search_or_failure(target: ExportTarget, context: ExportContext, scratch: Path) -> Outcome:
    """Search one target's precision; return any error, so that it costs no other file."""
    try:
        with missing_named():
            return search_precision(target, context, scratch)
    except Exception as error:
        return failure(target, error)


def failure(target: ExportTarget, error: Exception) -> SkinedgeError:
    """Return an error that names the target's file; errors that tell users what to do are returned unchanged."""
    if type(error) is SkinedgeError and error.where != target.shown:  # a converter's or runtime's
        error.where = f"{target.shown} ({error.where})" if error.where else target.shown
    return unexpected(error, target.shown)


@dataclass(frozen=True)
class WorkerTask:
    """Targets for a worker; results: of the context, computed since the last task."""

    targets: tuple[ExportTarget, ...]
    results: Results

    def __str__(self) -> str:
        return ", ".join(f"{target.format} {target.precision}" for target in self.targets)


@dataclass(frozen=True)
class WorkerOpener:
    """Set-up of a worker process. first: target whose converter's libraries are imported in advance."""

    first: ExportTarget
    root: Path
    images: Path | None
    scratch: Path

    def open(self) -> Callable[[WorkerTask], list[Outcome]]:
        """Import the converter's libraries; return the function that processes a task."""
        keep_freed_memory()
        tempfile.tempdir = str(self.scratch)  # a killed worker's temporary files are removed with it
        with missing_named(), captured_output("importing what converts to", self.first.format):
            for library in getattr(converter_of(self.first), "libraries", ()):
                importlib.import_module(library)
        context = ExportContext(Bundle.open(self.root), self.images)

        def work(task: WorkerTask) -> list[Outcome]:
            context.results.update(task.results)
            return [search_or_failure(target, context, self.scratch) for target in task.targets]

        return work


@contextlib.contextmanager
def missing_named() -> Iterator[None]:
    """Turn import errors into MissingDependencyError or IncompatibleDependencyError.

    Raises: MissingDependencyError for a library that is not installed, IncompatibleDependencyError for one that
    cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise import_failure(error, "export") from None


class ExportWorker:
    """Worker process for one converter's targets; leaving the context ends the process."""

    def __init__(self, targets: Sequence[ExportTarget], context: ExportContext, scratch: Path) -> None:
        self._targets = targets
        opener = WorkerOpener(targets[0], context.bundle.root, context.images, scratch)
        self._worker: Worker[WorkerTask, list[Outcome]] = Worker(opener, shown=True, todo=SMALLER)
        self._thread = ThreadPoolExecutor(1)
        self._tasks: list[tuple[WorkerTask, Future[list[list[Outcome]]]]] = []
        self._sent: set[object] = set()  # keys of the context's results that the worker has
        self._outcomes: dict[ExportTarget, Outcome] = {}

    def __enter__(self) -> ExportWorker:
        self._thread.submit(self._worker.work, ())  # starts the imports
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def send(self, calibrated: bool, context: ExportContext) -> None:
        """Send the targets that need calibration, or those that do not, with the inputs of their first candidates."""
        targets = [
            target for target in self._targets if target.calibrated == calibrated and self._prepared(target, context)
        ]
        if not targets:
            return
        results = {
            key: result for key, result in context.results.items() if key not in self._sent and key[0] != NOT_SENT
        }
        self._sent.update(results)
        task = WorkerTask(tuple(targets), results)
        self._tasks.append((task, self._thread.submit(self._worker.work, (task,))))

    def _prepared(self, target: ExportTarget, context: ExportContext) -> bool:
        """Compute the inputs of the target's first candidate; return False, and record the error, if that fails."""
        try:
            context.job(recipe_of(target, "int8" if target.calibrated else target.precisions[0]), target.form)
            context.golden(target.form)
            context.val(target.form)
        except Exception as error:
            self._outcomes[target] = failure(target, error)
            return False
        return True

    def outcomes(self) -> list[tuple[ExportTarget, Outcome]]:
        """Wait for the worker; return its targets' outcomes in their order."""
        crash: SkinedgeError | None = None
        for task, done in self._tasks:
            try:
                self._outcomes.update(zip(task.targets, done.result()[0], strict=True))
            except Exception as error:
                crash = crash or unexpected(error)  # a crashed process is one error, however many targets it had
                self._outcomes.update(dict.fromkeys(task.targets, crash))
        return [(target, self._outcomes[target]) for target in self._targets]
