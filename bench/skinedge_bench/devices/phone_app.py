"""Timing on a phone by our app: an intent starts its benchmark, and its result is read back.

The constants are the interface to the app. It reads the model files from `files/benchmark/` in its own folder, times
them in interleaved blocks, and writes `files/benchmark.json`: `request` (the id from the intent), then either `error`
(a sentence) or `rows`[{file, threads, load_ms, first_inference_ms, peak_rss_mib}], `samples_ms`{key:
blocks of milliseconds} with the keys of `targets.sample_key` for the runtime 'litert', and `versions`{name: version}.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.core.json_io import parse_json
from skinedge.system.progress import note
from skinedge_bench.devices.adb import Phone
from skinedge_bench.devices.phone import Job, Timed
from skinedge_bench.latency.block_stats import medians, noise_reasons, summarize
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.row import Row

PACKAGE = "org.skinedge.demo"
ACTIVITY = ".BenchmarkActivity"
MODELS, RESULT = "files/benchmark", "files/benchmark.json"  # in the app's own folder
# Extras: request (string), models (string, names joined by ','), threads (string, numbers joined by ','), and integers:
INTEGERS = ("warmup", "block", "blocks", "min_seconds", "seed")
POLL = 1.0  # seconds
START_SECONDS = 120.0  # allowed for starting the app and loading every file
SLOWEST_SECONDS = 1.0  # allowed per inference
INSTALL = "Install the app's debug build: adb install -r APK"


class App:
    """Timing method: the app installed on the phone."""

    def time(self, job: Job, templates: Sequence[Row]) -> Timed:
        """Time the files in the app. Raises: SkinedgeError."""
        request = secrets.token_hex(8)
        try:
            self._copy_files(job)
            self._start(job, request, templates)
            document = self._result(job.phone, request, time_limit(job.protocol, len(templates)))
        finally:
            job.phone.run_on_phone("run-as", PACKAGE, "rm", "-rf", MODELS, RESULT)
        return timed(document, templates, job.phone.where)

    def _copy_files(self, job: Job) -> None:
        """Copy the files into the app's folder, as the app's user."""
        done = job.phone.run_on_phone("run-as", PACKAGE, "mkdir", "-p", MODELS)
        output = done.stdout + done.stderr
        if "unknown package" in output:
            raise SkinedgeError(f"the app {PACKAGE} is not installed", where=job.phone.where, todo=INSTALL)
        if "not debuggable" in output:
            raise SkinedgeError(
                "the app is not a debug build: its files cannot be read", where=job.phone.where, todo=INSTALL
            )
        if done.returncode:
            raise job.phone.failure("run-as", output)
        job.phone.shell("run-as", PACKAGE, "rm", "-f", RESULT)
        for name, path in job.files.items():
            job.phone.shell("run-as", PACKAGE, "cp", f"{job.folder}/{name}", f"{MODELS}/{name}")
            job.phone.compare(path, ["run-as", PACKAGE, "sha256sum", f"{MODELS}/{name}"])

    def _start(self, job: Job, request: str, templates: Sequence[Row]) -> None:
        """Start the benchmark. Raises: SkinedgeError."""
        texts = {
            "request": request,
            "models": ",".join(job.files),
            "threads": ",".join(map(str, dict.fromkeys(row.threads for row in templates))),
        }
        numbers = {**asdict(job.protocol), "seed": job.seed}
        extras = [word for name, text in texts.items() for word in ("--es", name, text)]
        extras += [word for name in INTEGERS for word in ("--ei", name, str(int(numbers[name])))]
        output = job.phone.shell("am", "start", "-S", "-W", "-n", f"{PACKAGE}/{ACTIVITY}", *extras)
        if "Error" in output:
            line = next(line for line in output.splitlines() if "Error" in line)
            raise SkinedgeError(f"cannot start the app's benchmark ({line})", where=job.phone.where, todo=INSTALL)

    def _result(self, phone: Phone, request: str, limit: float) -> dict[str, Any]:
        """Wait for the result of `request`.

        Raises: SkinedgeError if the app ended, or writes no result within `limit` seconds.
        """
        note(f"{phone.where}: the app is measuring; leave its screen on")
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            running = phone.run_on_phone("pidof", PACKAGE).returncode == 0  # first: the app may end after writing
            done = phone.run("exec-out", "run-as", PACKAGE, "cat", RESULT)
            try:
                document = parse_json(done.stdout, dict[str, Any], RESULT) if done.returncode == 0 else {}
            except BundleError:
                document = {}  # half-written
            if document.get("request") == request:
                return document
            if not running:
                phone.require()
                todo = "See why with: adb logcat -d"
                raise SkinedgeError("the app ended without a result", where=phone.where, todo=todo)
            time.sleep(POLL)
        todo = "Keep the phone's screen on and run the command again. Details: adb logcat -d"
        raise SkinedgeError(f"the app gave no result within {limit:.0f} s", where=phone.where, todo=todo)


def time_limit(protocol: Protocol, rows: int) -> float:
    """Return the timeout in seconds, for the slowest allowed inferences."""
    inferences = protocol.warmup + max(protocol.block * protocol.blocks, 1)
    return START_SECONDS + rows * (protocol.min_seconds + inferences * SLOWEST_SECONDS)


def timed(document: Mapping[str, Any], templates: Sequence[Row], where: str) -> Timed:
    """Return the rows of a result. Raises: SkinedgeError if it is an error or incomplete."""
    if document.get("error"):
        raise SkinedgeError(f"the app could not time the files: {document['error']}", where=where)
    try:
        results = {(row["file"], row["threads"]): row for row in document["rows"]}
        rows = []
        for row in templates:
            blocks, result = document["samples_ms"][row.key], results[row.file, row.threads]
            figures = {name: result[name] for name in ("load_ms", "first_inference_ms", "peak_rss_mib")}
            figures |= {**asdict(summarize(blocks)), "block_medians_ms": tuple(medians(blocks).tolist())}
            rows.append(replace(row, **figures, reasons=noise_reasons(blocks)))
        return Timed(tuple(rows), {row.key: document["samples_ms"][row.key] for row in rows}, document["versions"])
    except (KeyError, TypeError, ValueError) as error:
        raise SkinedgeError(f"this version cannot read the app's result ({error!r})", where=where) from None
