"""What a benchmark measures: each file in each runtime that takes it, with each number of threads."""

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


@dataclass(frozen=True)
class BenchRequest:
    """What `skinedge bench` was asked for.

    protocol: its name; threads: each file is measured with each of these numbers; runtimes: by name, none for all that
    are there; beside: model files of anybody's that are measured among those of the run; seed: of the order of blocks.
    """

    protocol: str = "standard"
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    seed: int = 0

    def checked(self) -> Protocol:
        """The protocol. Raises: ConfigError for an unknown protocol or runtime, or more threads than cores."""
        cores = usable_cores()
        for count in self.threads:
            if not 1 <= count <= cores:
                raise ConfigError(f"--threads {count}: this machine lets us use 1 to {cores}")
        for name in self.runtimes:
            one_of("runtime", name, names(RUNTIMES))
        return read_protocol(self.protocol)


STANDARD = BenchRequest()


@dataclass(frozen=True)
class Target:
    """One file in one runtime, with so many threads.

    name: in reports, different for different files; labels: in the order of its outputs, None where it does not tell
    them; in_run: whether it is a file of the run that is measured.
    """

    path: Path
    name: str
    sha256: str
    precision: str
    runtime: Runtime
    threads: int = 1
    labels: tuple[str, ...] | None = None
    in_run: bool = True

    @property
    def key(self) -> str:
        return sample_key(self.runtime.name, self.name, self.threads)


def sample_key(runtime: str, name: str, threads: int) -> str:
    """Where a report keeps the raw samples of a row: 'runtime file', and the threads where they are more than one."""
    return f"{runtime} {name}" + (f", {threads} threads" if threads > 1 else "")


def thread_counts(text: str) -> tuple[int, ...]:
    """'1,2,all' -> (1, 2, cores), each once. Raises: ConfigError for anything else."""
    words = [word.strip() for word in text.split(",")]
    try:
        counts = [usable_cores() if word == "all" else int(word) for word in words]
    except ValueError:
        raise ConfigError(f"--threads {text}: not numbers", todo="For example: --threads 1, or 1,2,4,all") from None
    return tuple(dict.fromkeys(counts))


def run_targets(bundle: Bundle, request: BenchRequest) -> list[Target]:
    """The merged model and every exported file of a run; hashes checked.

    Raises: BundleError when nothing was exported, or a file is missing or was changed.
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
        for runtime in chosen(bundle.root / entry.path, request)
        for threads in request.threads
    ]


def file_targets(paths: Sequence[Path], own: Sequence[Target], request: BenchRequest) -> list[Target]:
    """Model files of anybody's, beside those of a run (`own`); what has to be supposed about them is said.

    Raises: BundleError, ConfigError for a file that cannot be loaded, is no image classifier, is there already, or runs
    in none of the runtimes that were asked for.
    """
    places, used = {target.path.resolve() for target in own}, {target.name for target in own}
    targets: list[Target] = []
    for path in paths:
        if path.resolve() in places:
            raise ConfigError("this file is measured already", where=str(path))
        model = open_file(path)
        runtimes = chosen(path, request)
        if not runtimes:
            raise ConfigError(f"this file does not run in {', '.join(request.runtimes)}", where=str(path))
        name = _name(path, used)
        places.add(path.resolve())
        used.add(name)
        for assumption in model.assumptions:
            note(f"{name}: assumed: {assumption}")
        targets += [
            Target(path, name, model.sha256, model.precision, runtime, threads, _labels(model), in_run=False)
            for runtime in runtimes
            for threads in request.threads
        ]
    return targets


def chosen(path: Path, request: BenchRequest) -> list[Runtime]:
    """The runtimes that take this file: those that were asked for, else all but what the protocol leaves out and the
    optional ones that are not there.
    """
    fitting = runtimes_for(path)
    if request.runtimes:
        return [runtime for runtime in fitting if runtime.name in request.runtimes]
    on_request = read_protocol(request.protocol).on_request
    return [r for r in fitting if r.name not in on_request and not (r.optional and why_missing(r))]


def note_left_out(targets: Sequence[Target], request: BenchRequest) -> None:
    """Say which optional runtimes take these files and are not measured, because they are not available here."""
    if request.runtimes:
        return
    runtimes = {
        r.name: r
        for path in {target.path.suffix: target.path for target in targets}.values()
        for r in runtimes_for(path)
    }
    missing = [name for name, runtime in runtimes.items() if runtime.optional and why_missing(runtime)]
    if missing:
        note(f"not available here, left out: {', '.join(missing)}")


def why_missing(runtime: Runtime) -> str | None:
    """Why a runtime cannot work here, None where it can."""
    try:
        runtime.version()
    except MissingDependencyError:
        return "not installed"
    except (UnavailableError, IncompatibleDependencyError) as error:
        return error.what
    return None


def _name(path: Path, used: set[str]) -> str:
    """The file's name, with as many of its folders as tell it from others: a report is read elsewhere."""
    parts = path.absolute().parts
    return next(name for count in range(1, len(parts) + 1) if (name := "/".join(parts[-count:])) not in used)


def _labels(model: LoadedModel) -> tuple[str, ...] | None:
    told = KEY in model.session.metadata or "labels" in model.session.metadata
    return model.labels if told else None  # else they are only numbered
