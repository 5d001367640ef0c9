"""`skinedge web`: a static site that runs a run's model file in the user's browser.

The page is in `page/`; the libraries that run the model are in `page/vendor` (`skinedge_bench.web.assets`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skinedge.core import json_io, taxonomy
from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.files import disk_error, path_inside
from skinedge.core.input_format import HEATMAP
from skinedge.core.preprocess import prepare
from skinedge.run import golden
from skinedge.run.file_card import card_name, read_card
from skinedge.run.run_directory import Bundle
from skinedge.system import folder_swap
from skinedge_bench.device import Device
from skinedge_bench.explain.overlay import OPACITY, STEPS
from skinedge_bench.latency.block_stats import DRIFT, LEAST_BLOCKS, NOISE, P99_SAMPLES, RESAMPLES
from skinedge_bench.latency.protocol import read_protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row
from skinedge_bench.loaded_model import LoadedModel, default_file, exported, open_listed
from skinedge_bench.web.assets import PAGE, vendored, version

SCHEMA = "skinedge.web/1"
SETTINGS = "site.json"
CHECK = "check.bin"
CHECKED = 4  # golden images for the page's self-check
LIMIT = 0.05  # largest difference between a probability in the browser and in Python
RUNTIMES = {".tflite": "litert.js", ".onnx": "onnxruntime-web"}  # in order of preference


@dataclass(frozen=True)
class Site:
    """A site to serve. files: path in the site -> content; model: name of the model file.

    All content is in memory, so a file that changes, or becomes a link, after its check is not served.
    """

    files: Mapping[str, bytes]
    model: str


def build(bundle: Bundle, name: str | None = None) -> Site:
    """Build the site of a run's model file. name: of the file; None: selected by `choose`.

    Raises: BundleError for an invalid run, file or card, or a run without a file for browsers; ConfigError for a file
    type that browsers cannot run; SkinedgeError without the vendored libraries.
    """
    if name and Path(name).suffix not in RUNTIMES:
        raise ConfigError(f"browsers run {' and '.join(RUNTIMES)} files", where=f"--file {name}")
    model = open_listed(bundle, name) if name else choose(bundle)
    runtime = RUNTIMES[model.path.suffix]
    content = model.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise BundleError("the file was changed while it was read", where=str(model.path))
    card = bundle.file(card_name(model.name))
    if read_card(card)["sha256"] != model.sha256:
        raise BundleError("the card belongs to another file", where=str(card))
    check, pixels = _check(model, golden.of_run(bundle))
    settings = _settings(model, runtime, check)
    page_files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file() and path.suffix != ".toml"}
    libraries = {f"vendor/{path}": file for path, file in vendored(runtime).items()}
    model_files = {
        settings["model"]: content,
        settings["card"]: card.read_bytes(),
        CHECK: pixels,
        SETTINGS: json_io.to_text(settings).encode(),
    }
    return Site({**page_files, **libraries, **model_files}, model.name)


def choose(bundle: Bundle) -> LoadedModel:
    """Select the model file to serve.

    The default file if it is a .tflite file with a heatmap output, else the first such file, else the default file if a
    browser can run it, else the first file that a browser can run.
    Raises: BundleError when a browser can run none of the files.
    """
    default = default_file(bundle)
    names = [default, *(entry.path for entry in exported(bundle) if entry.path != default)]
    models = [open_listed(bundle, name) for suffix in RUNTIMES for name in names if name.endswith(suffix)]
    if not models:
        raise BundleError("this run has no file that a browser can run", where=str(bundle.root))
    return next(
        (model for model in models if any(output.name == HEATMAP for output in model.session.outputs)), models[0]
    )


def write(site: Site, out: Path) -> None:
    """Write the site to the folder `out`, completely or not at all.

    Raises: ConfigError when `out` exists and is not an empty folder; BundleError when it cannot be written.
    """
    folder_swap.recover(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("output exists", where=f"--out {out}", todo="Name a new or an empty folder.")
    try:
        with folder_swap.new_folder(out) as folder:
            for name, content in site.files.items():
                target = path_inside(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except OSError as error:
        raise disk_error(error, out) from None


def _check(model: LoadedModel, vectors: golden.Golden) -> tuple[dict[str, Any], bytes]:
    """Return the expected results of the page's self-check, and the concatenated source pixels of its images."""
    smallest = sorted(vectors.sources, key=lambda index: vectors.sources[index].size)[:CHECKED]
    images, content = [], b""
    for index in smallest:
        source = vectors.sources[index]
        prepared = prepare(source, model.size)
        images.append(
            {
                "width": source.shape[1],
                "height": source.shape[0],
                "offset": len(content),
                "prepared_sha256": hashlib.sha256(prepared.tobytes()).hexdigest(),
                "probabilities": [float(value) for value in model.run(prepared[None]).probabilities[0]],
            }
        )
        content += source.tobytes()
    return {"file": CHECK, "limit": LIMIT, "images": images}, content


def _settings(model: LoadedModel, runtime: str, check: Mapping[str, Any]) -> dict[str, Any]:
    """Build site.json: the settings of the page that are not in the card."""
    return {
        "schema": SCHEMA,
        "model": f"model/{model.name}",
        "card": f"model/{card_name(model.name)}",
        "runtime": {"name": runtime, "version": version(runtime)},
        "names": {label: taxonomy.full_name(label) for label in model.labels},
        "check": check,
        "overlay": {"steps": STEPS, "opacity": OPACITY},
        "bench": _bench_settings(model, runtime),
    }


def _bench_settings(model: LoadedModel, runtime: str) -> dict[str, Any]:
    """Return the protocols, the limits of `block_stats`, and a `bench` report without measurements."""
    device = Device(
        machine="a browser",  # replaced by the page with the browser's values
        cpu="not told by the browser",
        system="a browser",
        python=None,
        features=(),
        int8_dot_product=None,
        cores=1,
        governor=None,
        max_frequency_mhz=None,
        emulated=None,
        virtualization=(),
        versions={runtime: version(runtime)},
    )
    row = Row(
        file=model.name,
        runtime=runtime,
        precision=model.precision,
        threads=1,
        size_bytes=model.path.stat().st_size,
        sha256=model.sha256,
        accuracy_note="not measured: a browser has no test images",
    )
    report = LatencyReport(device, read_protocol("quick"), 0, (row,))
    return {
        "protocols": [asdict(read_protocol(name)) for name in ("quick", "standard", "mlperf")],
        "limits": {
            "noise": NOISE,
            "drift": DRIFT,
            "p99_samples": P99_SAMPLES,
            "resamples": RESAMPLES,
            "least_blocks": LEAST_BLOCKS,
        },
        "key": row.key,
        "document": json_io.document("bench", report.document(), model_id=model.model_id, model_sha256=model.sha256),
    }
