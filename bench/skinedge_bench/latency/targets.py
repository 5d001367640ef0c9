"""Targets of a benchmark: each file in each runtime that accepts it, with each number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import (
    ConfigError,
    IncompatibleDependencyError,
    MissingDependencyError,
    UnavailableError,
    one_of,
)
from skinedge.run.embedded_metadata import KEY
from skinedge.run.manifest import MODEL
from skinedge.run.plugins import RUNTIMES, Runtime, names, runtimes_for
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu import usable_cores
from skinedge.system.progress import note
from skinedge_bench.latency.protocol import Protocol, read_protocol
from skinedge_bench.loaded_model import LoadedModel, exported, open_file
from skinedge_bench.runtimes.output_format import OutputFormat


@dataclass(frozen=True)
class BenchRequest:
    """The options of a benchmark.

    protocol: its name; threads: each file is measured with each of these numbers; runtimes: names, empty for all
    available ones; beside: third-party model files to measure with the run's; seed: of the order of blocks; output:
    name of the third-party files' output with the class scores, None chooses it.
    """

    protocol: str = "standard"
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    seed: int = 0
    output: str | None = None

    def checked(self) -> Protocol:
        """Return the protocol. Raises: ConfigError for an unknown protocol or runtime, or more threads than cores."""
        cores = usable_cores()
        for count in self.threads:
            if not 1 <= count <= cores:
                raise ConfigError(f"--threads {count}: must be between 1 and {cores} (available cores)")
        for name in self.runtimes:
            one_of("runtime", name, names(RUNTIMES))
        return read_protocol(self.protocol)


STANDARD = BenchRequest()


@dataclass(frozen=True)
class Target:
    """One file in one runtime with one number of threads.

    name: in reports, unique per file; labels: in the order of its outputs, None if the file does not name them;
    in_run: whether it is a file of the measured run; output_format: of a third-party file's scores.
    """

    path: Path
    name: str
    sha256: str
    precision: str
    runtime: Runtime
    threads: int = 1
    labels: tuple[str, ...] | None = None
    in_run: bool = True
    output_format: OutputFormat | None = None

    @property
    def key(self) -> str:
        """Return the key of its raw samples."""
        return sample_key(self.runtime.name, self.name, self.threads)


def sample_key(runtime: str, name: str, threads: int) -> str:
    """Return the key of a row's raw samples: 'runtime file', and the threads if more than one."""
    return f"{runtime} {name}" + (f", {threads} threads" if threads > 1 else "")


def thread_counts(text: str) -> tuple[int, ...]:
    """Parse '1,2,all' as (1, 2, cores), without duplicates. Raises: ConfigError for anything else."""
    words = [word.strip() for word in text.split(",")]
    try:
        counts = [usable_cores() if word == "all" else int(word) for word in words]
    except ValueError:
        raise ConfigError(
            f"--threads {text}: must be numbers or 'all'", todo="For example: --threads 1, or 1,2,4,all"
        ) from None
    return tuple(dict.fromkeys(counts))


def run_targets(bundle: Bundle, request: BenchRequest) -> list[Target]:
    """Return targets for the merged model and every exported file of a run; checks hashes.

    Raises: BundleError if nothing was exported, or a file is missing or changed.
    """
    entries = exported(bundle)
    merged = bundle.entries().get(MODEL)
    return [
        Target(
            path=bundle.file(entry.path),
            name=entry.path,
            sha256=entry.sha256,
            precision=str(entry.info.get("precision", "fp32")),
            runtime=runtime,
            threads=threads,
            labels=bundle.manifest.labels,
        )
        for entry in ([merged] if merged else []) + entries
        for runtime in choose_runtimes(bundle.root / entry.path, request)
        for threads in request.threads
    ]


def file_targets(paths: Sequence[Path], own: Sequence[Target], request: BenchRequest) -> list[Target]:
    """Return targets for third-party model files, beside a run's (`own`); print the assumptions made about them.

    Raises: BundleError, ConfigError for a file that cannot be loaded, is not an image classifier, is a target already,
    or runs in none of the requested runtimes.
    """
    measured, used = {target.path.resolve() for target in own}, {target.name for target in own}
    targets: list[Target] = []
    for path in paths:
        if path.resolve() in measured:
            raise ConfigError("this file is measured already", where=str(path))
        model = open_file(path, output=request.output)
        runtimes = choose_runtimes(path, request)
        if not runtimes:
            raise ConfigError(f"this file does not run in {', '.join(request.runtimes)}", where=str(path))
        name = _name(path, used)
        measured.add(path.resolve())
        used.add(name)
        for assumption in model.assumptions:
            note(f"{name}: assumed: {assumption}")
        targets += [
            Target(
                path=path,
                name=name,
                sha256=model.sha256,
                precision=model.precision,
                runtime=runtime,
                threads=threads,
                labels=_labels(model),
                in_run=False,
                output_format=model.output_format,
            )
            for runtime in runtimes
            for threads in request.threads
        ]
    return targets


def choose_runtimes(path: Path, request: BenchRequest) -> list[Runtime]:
    """Return a file's runtimes: the requested ones, else the available ones without the protocol's `on_request`."""
    fitting = runtimes_for(path)
    if request.runtimes:
        return [runtime for runtime in fitting if runtime.name in request.runtimes]
    on_request = read_protocol(request.protocol).on_request
    return [r for r in fitting if r.name not in on_request and not (r.optional and why_missing(r))]


def note_left_out(targets: Sequence[Target], request: BenchRequest) -> None:
    """Print the optional runtimes that would accept these files, but are not available here."""
    if request.runtimes:
        return
    runtimes = {
        r.name: r
        for path in {target.path.suffix: target.path for target in targets}.values()
        for r in runtimes_for(path)
    }
    missing = [name for name, runtime in runtimes.items() if runtime.optional and why_missing(runtime)]
    if missing:
        note(f"skipped runtimes, not available here: {', '.join(missing)}")


def why_missing(runtime: Runtime) -> str | None:
    """Return the reason why a runtime cannot work here; None if it can."""
    try:
        runtime.version()
    except MissingDependencyError:
        return "not installed"
    except (UnavailableError, IncompatibleDependencyError) as error:
        return error.what
    return None


def _name(path: Path, used: set[str]) -> str:
    """Return the file's name, preceded by as many of its folders as make it unique."""
    parts = path.absolute().parts
    return next(name for count in range(1, len(parts) + 1) if (name := "/".join(parts[-count:])) not in used)


def _labels(model: LoadedModel) -> tuple[str, ...] | None:
    named = KEY in model.session.metadata or "labels" in model.session.metadata
    return model.labels if named else None  # else the labels are only numbers
