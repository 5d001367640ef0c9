"""Timing on a phone by our app: its benchmark is started by an intent, and its result is read back.

What app and bench agree on is in the constants. The app reads the model files from `files/benchmark/` of its own
folder, times them in interleaved blocks, and writes `files/benchmark.json`: `request` (the id that it was given), then
either `error` (a sentence) or `rows`[{file, threads, load_ms, first_inference_ms, peak_rss_mib}], `samples_ms`{key:
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
START_SECONDS = 120.0  # to start the app and load every file, before the result is overdue
SLOWEST_SECONDS = 1.0  # an inference, at most
INSTALL = "Install the app's debug build: adb install -r APK"


class App:
    """The app, as it is installed on the phone."""

    def time(self, job: Job, templates: Sequence[Row]) -> Timed:
        request = secrets.token_hex(8)
        try:
            self._hand_over(job)
            self._start(job, request, templates)
            document = self._result(job.phone, request, time_limit(job.protocol, len(templates)))
        finally:
            job.phone.there("run-as", PACKAGE, "rm", "-rf", MODELS, RESULT)
        return timed(document, templates, job.phone.where)

    def _hand_over(self, job: Job) -> None:
        """Copy the files into the app's folder, as the app's user."""
        done = job.phone.there("run-as", PACKAGE, "mkdir", "-p", MODELS)
        said = done.stdout + done.stderr
        if "unknown package" in said:
            raise SkinedgeError(f"the app {PACKAGE} is not installed", where=job.phone.where, todo=INSTALL)
        if "not debuggable" in said:
            raise SkinedgeError(
                "the app is no debug build: its files cannot be read", where=job.phone.where, todo=INSTALL
            )
        if done.returncode:
            raise job.phone.failure("run-as", said)
        job.phone.shell("run-as", PACKAGE, "rm", "-f", RESULT)
        for name, path in job.files.items():
            job.phone.shell("run-as", PACKAGE, "cp", f"{job.folder}/{name}", f"{MODELS}/{name}")
            job.phone.compare(path, ["run-as", PACKAGE, "sha256sum", f"{MODELS}/{name}"])

    def _start(self, job: Job, request: str, templates: Sequence[Row]) -> None:
        texts = {
            "request": request,
            "models": ",".join(job.files),
            "threads": ",".join(map(str, dict.fromkeys(row.threads for row in templates))),
        }
        known = {**asdict(job.protocol), "seed": job.seed}
        extras = [word for name, text in texts.items() for word in ("--es", name, text)]
        extras += [word for name in INTEGERS for word in ("--ei", name, str(int(known[name])))]
        said = job.phone.shell("am", "start", "-S", "-W", "-n", f"{PACKAGE}/{ACTIVITY}", *extras)
        if "Error" in said:
            line = next(line for line in said.splitlines() if "Error" in line)
            raise SkinedgeError(f"the app has no benchmark to start ({line})", where=job.phone.where, todo=INSTALL)

    def _result(self, phone: Phone, request: str, limit: float) -> dict[str, Any]:
        """The document that answers `request`, as soon as it is there.

        Raises: SkinedgeError when the app is gone, or gives no answer within `limit` seconds.
        """
        note(f"{phone.where}: the app is timing; leave its screen on")
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            running = phone.there("pidof", PACKAGE).returncode == 0  # asked first: it may end after writing
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
        todo = "Wake the phone's screen and leave it on, then run the command again. See more with: adb logcat -d"
        raise SkinedgeError(f"the app gave no result within {limit:.0f} s", where=phone.where, todo=todo)


def time_limit(protocol: Protocol, rows: int) -> float:
    """Seconds after which a result is overdue, were every inference as slow as can be."""
    inferences = protocol.warmup + max(protocol.block * protocol.blocks, 1)
    return START_SECONDS + rows * (protocol.min_seconds + inferences * SLOWEST_SECONDS)


def timed(document: Mapping[str, Any], templates: Sequence[Row], where: str) -> Timed:
    """The rows that a result tells of. Raises: SkinedgeError when it tells of an error, or not of every row."""
    if document.get("error"):
        raise SkinedgeError(f"the app could not time the files: {document['error']}", where=where)
    try:
        told = {(row["file"], row["threads"]): row for row in document["rows"]}
        rows = []
        for row in templates:
            blocks, own = document["samples_ms"][row.key], told[row.file, row.threads]
            figures = {name: own[name] for name in ("load_ms", "first_inference_ms", "peak_rss_mib")}
            figures |= {**asdict(summarize(blocks)), "block_medians_ms": tuple(medians(blocks).tolist())}
            rows.append(replace(row, **figures, reasons=noise_reasons(blocks)))
        return Timed(tuple(rows), {row.key: document["samples_ms"][row.key] for row in rows}, document["versions"])
    except (KeyError, TypeError, ValueError) as error:
        raise SkinedgeError(f"the app's result is not what this version reads ({error!r})", where=where) from None
